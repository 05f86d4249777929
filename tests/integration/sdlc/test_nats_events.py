import asyncio
import socket
from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.client import Client
from nats.aio.transport import TcpTransport
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from adapters.nats.events import NatsEventPublisher, connect
from pipeline.errors import DependencyUnavailable
from pipeline.events import STREAMS, Event, EventType, deliverable, event
from pipeline.team import TEAM
from tests.eventually import PATIENCE_SECONDS, Stopwatch
from tests.fixtures_sdlc import NatsServer
from tests.ports import own_port

AT = datetime(2026, 1, 5, tzinfo=UTC)


def an_event(index: int, text: str = "") -> Event:
    return event(f"run-{index}", EventType.STAGE_STARTED, "REQ-1", AT, text=text)


@pytest.fixture
async def client(nats_server: NatsServer, nats_publisher: NatsEventPublisher) -> Client:
    """The streams as another program sees them."""
    return nats_publisher._client  # the test looks behind the port


async def _ids(publisher: NatsEventPublisher, since: datetime | None = None) -> list[object]:
    return [each["eventId"] async for each in publisher.events(since=since)]


async def test_streams_keep_everything_for_thirty_days(client: Client) -> None:
    jetstream = client.jetstream()

    for stream in STREAMS:
        config = (await jetstream.stream_info(stream.name)).config
        assert config.subjects == list(stream.subjects)
        assert config.max_age == config.duplicate_window == 30 * 24 * 3600
        assert (config.max_msgs, config.max_bytes) == (-1, -1)
        assert (config.discard, config.storage) == (DiscardPolicy.NEW, StorageType.FILE)


async def test_stream_of_another_shape_is_brought_to_ours(
    client: Client, nats_publisher: NatsEventPublisher
) -> None:
    jetstream, name = client.jetstream(), STREAMS[0].name
    await jetstream.update_stream(
        StreamConfig(name=name, subjects=list(STREAMS[0].subjects), max_age=60, max_msgs=5)
    )

    await nats_publisher.ensure_streams()

    config = (await jetstream.stream_info(name)).config
    assert (config.max_age, config.max_msgs) == (30 * 24 * 3600, -1)


async def test_event_carries_its_id_twice(
    client: Client, nats_publisher: NatsEventPublisher
) -> None:
    await nats_publisher.publish([an_event(1, text="é")])

    message = await client.jetstream().get_msg(STREAMS[0].name, 1)

    assert message.subject == "agog.orchestration.events.stage.started"
    assert message.headers == {"Nats-Msg-Id": "run-1:stage.started:1"}
    assert (
        message.data
        == (
            '{"eventType":"stage.started","reqNumber":"REQ-1","timestamp":"2026-01-05T00:00:00.000Z",'
            '"eventId":"run-1:stage.started:1","text":"é"}'
        ).encode()
    )


async def test_deliverable_stands_in_its_own_stream(
    client: Client, nats_publisher: NatsEventPublisher
) -> None:
    notice = {"agent": "liz", "test_result": "PASS"}
    await nats_publisher.publish([deliverable("run-1", TEAM["liz"], "REQ-1", AT, notice)])

    message = await client.jetstream().get_msg(STREAMS[1].name, 1)

    assert message.subject == "agog.deliverables.liz.qa-frontend.REQ-1"


async def test_many_events_keep_their_order(nats_publisher: NatsEventPublisher) -> None:
    events = [an_event(index) for index in range(500)]

    await nats_publisher.publish(events)

    assert await _ids(nats_publisher) == [each.event_id for each in events]


async def test_repeat_is_dropped(nats_publisher: NatsEventPublisher) -> None:
    await nats_publisher.publish([an_event(1), an_event(2)])
    await nats_publisher.publish([an_event(2), an_event(3)])

    assert await _ids(nats_publisher) == [an_event(n).event_id for n in (1, 2, 3)]


async def test_largest_notice_fits(nats_publisher: NatsEventPublisher) -> None:
    await nats_publisher.publish([an_event(1, text="é" * 300_000)])

    assert len(await _ids(nats_publisher)) == 1


async def test_event_outside_every_stream_is_an_error(nats_publisher: NatsEventPublisher) -> None:
    stray = Event("id", EventType.STAGE_STARTED, "REQ-1", "agog.nowhere", {})

    with pytest.raises(DependencyUnavailable):
        await nats_publisher.publish([an_event(1), stray, an_event(2)])


async def test_nothing_to_read_ends_at_once(nats_publisher: NatsEventPublisher) -> None:
    assert await _ids(nats_publisher) == []
    await nats_publisher.publish([an_event(1)])
    assert await _ids(nats_publisher, since=datetime.now(UTC) + timedelta(hours=1)) == []


async def test_follower_sees_what_comes_later(nats_publisher: NatsEventPublisher) -> None:
    await nats_publisher.publish([an_event(1)])
    seen: list[object] = []

    async with asyncio.timeout(PATIENCE_SECONDS):
        events = nats_publisher.events(follow=True)
        async for each in events:
            seen.append(each["eventId"])
            if len(seen) == 3:
                break
            await nats_publisher.publish([an_event(len(seen) + 1)])
        await events.aclose()

    assert seen == [an_event(n).event_id for n in (1, 2, 3)]


async def test_server_that_is_not_there_is_named_with_its_remedy() -> None:
    port = own_port()

    with Stopwatch() as watch, pytest.raises(DependencyUnavailable) as refusal:
        await connect(f"nats://user:hidden@127.0.0.1:{port}", None, None)

    assert watch.seconds < 5
    assert f"NATS cannot be reached at 127.0.0.1:{port}. Start it with" in str(refusal.value)
    assert "hidden" not in str(refusal.value)


async def test_server_that_never_answers_is_given_up_within_five_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()

        with Stopwatch() as watch, pytest.raises(DependencyUnavailable):
            await connect(f"nats://127.0.0.1:{silent.getsockname()[1]}", None, None)

        assert watch.seconds < 5


async def test_wrong_password_is_refused(nats_server: NatsServer) -> None:
    with pytest.raises(DependencyUnavailable, match=r"(?i)authorization"):
        await connect(nats_server.url, "agog", "wrong")


async def test_connection_that_is_lost_while_it_is_closed_is_closed(client: Client) -> None:
    await client.publish("agog.test", b"not sent yet")
    assert isinstance(client._transport, TcpTransport)
    assert client._transport._io_writer
    client._transport._io_writer.transport.abort()  # as the system does it

    await client.close()

    assert client.is_closed
