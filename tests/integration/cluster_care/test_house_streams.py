from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client
from nats.js.api import StorageType

from adapters.nats.events import NatsEventPublisher, configuration, ensure_stream, find_flaw
from pipeline.errors import NotRepairable
from pipeline.events import STREAMS
from tests.fixtures_sdlc import NatsServer

STREAM = STREAMS[0]


@pytest.fixture
async def bare_client(nats_server: NatsServer) -> AsyncIterator[Client]:
    """A server without streams, seen by another program."""
    publisher = await nats_server.connect()
    yield publisher._client  # the test looks behind the port
    await publisher.close()


async def test_stream_as_we_make_it_has_no_flaw(nats_publisher: NatsEventPublisher) -> None:
    jetstream = nats_publisher._jetstream

    assert [await find_flaw(jetstream, stream) for stream in STREAMS] == [""] * len(STREAMS)


async def test_missing_stream_is_found_and_made(bare_client: Client) -> None:
    jetstream = bare_client.jetstream()
    assert await find_flaw(jetstream, STREAM) == "is missing"

    await ensure_stream(jetstream, STREAM)

    assert await find_flaw(jetstream, STREAM) == ""


@pytest.mark.parametrize(
    ("change", "flaw"),
    [
        ({"max_age": 60, "duplicate_window": 60}, "has max_age 60.0 instead of 2592000.0"),
        ({"max_msgs": 5}, "has max_msgs 5 instead of -1"),
        ({"max_msgs_per_subject": 1}, "has max_msgs_per_subject 1 instead of -1"),
        ({"max_bytes": 1024}, "has max_bytes 1024 instead of -1"),
        ({"subjects": ["agog.elsewhere"]}, "takes other subjects"),
    ],
)
async def test_stream_of_another_shape_is_named_and_brought_to_ours(
    bare_client: Client, change: dict[str, object], flaw: str
) -> None:
    jetstream = bare_client.jetstream()
    await jetstream.add_stream(configuration(STREAM).evolve(**change))
    assert flaw in await find_flaw(jetstream, STREAM)

    await ensure_stream(jetstream, STREAM)

    assert await find_flaw(jetstream, STREAM) == ""


async def test_stream_in_memory_is_left_alone_and_a_human_is_told(bare_client: Client) -> None:
    jetstream = bare_client.jetstream()
    await jetstream.add_stream(configuration(STREAM).evolve(storage=StorageType.MEMORY))
    await jetstream.publish("agog.orchestration.events.x", b"kept")

    with pytest.raises(NotRepairable, match="has storage memory instead of file"):
        await ensure_stream(jetstream, STREAM)

    assert (await jetstream.stream_info(STREAM.name)).state.messages == 1


async def test_subjects_that_another_stream_takes_are_named(bare_client: Client) -> None:
    jetstream = bare_client.jetstream()
    await jetstream.add_stream(name="theirs", subjects=["agog.orchestration.>"])

    with pytest.raises(NotRepairable, match=f"{STREAM.name} cannot be created: .*overlap"):
        await ensure_stream(jetstream, STREAM)
