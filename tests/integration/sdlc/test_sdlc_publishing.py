import asyncio
from collections.abc import Sequence

import pytest

from adapters.nats.events import NatsEventPublisher
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore, create_store
from pipeline.errors import DependencyUnavailable
from pipeline.events import Event
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_sdlc import NatsServer
from tests.sdlc_factory import CRITIQUE, RESEARCH, Requirement


class DiesAfterSending:
    """A publisher whose process ends before it can mark what it sent."""

    def __init__(self, publisher: NatsEventPublisher) -> None:
        self._publisher = publisher

    async def publish(self, events: Sequence[Event]) -> None:
        await self._publisher.publish(events)
        raise ConnectionResetError("killed")


async def _stream(publisher: NatsEventPublisher) -> list[str]:
    return [str(event["eventId"]) async for event in publisher.events()]


async def _rows(reader: SdlcReader) -> list[str]:
    rows = await reader.events("REQ-1")
    return [row.event_id for row in rows if row.type != "deliverable"]


async def test_events_go_out_once_and_in_order(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, nats_publisher: NatsEventPublisher
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)
    pending = len(await sdlc_reader.events("REQ-1"))

    assert await sdlc_store.publish_pending("REQ-1", nats_publisher) == pending
    assert await sdlc_store.publish_pending("REQ-1", nats_publisher) == 0

    assert await _stream(nats_publisher) == await _rows(sdlc_reader)
    assert await sdlc_store.numbers_with_pending_events() == []


async def test_two_publishers_at_once_send_nothing_twice(
    sdlc_reader: SdlcReader, database_url: str, nats_publisher: NatsEventPublisher
) -> None:
    stores = [create_store(database_url) for _ in range(2)]
    requirement = await Requirement(stores[0]).begun()
    await requirement.run_up_to(RESEARCH, CRITIQUE)

    sent = await asyncio.gather(
        *(store.publish_pending("REQ-1", nats_publisher) for store in stores for _ in range(3))
    )

    assert sum(sent) == len(await sdlc_reader.events("REQ-1"))
    assert await _stream(nats_publisher) == await _rows(sdlc_reader)
    await asyncio.gather(*(store.close() for store in stores))


async def test_death_between_sending_and_marking_leaves_one_copy(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, nats_publisher: NatsEventPublisher
) -> None:
    await Requirement(sdlc_store).begun()

    with pytest.raises(ConnectionResetError):
        await sdlc_store.publish_pending("REQ-1", DiesAfterSending(nats_publisher))
    assert await sdlc_store.numbers_with_pending_events() == ["REQ-1"]

    assert await sdlc_store.publish_pending("REQ-1", nats_publisher) == 1
    assert await _stream(nats_publisher) == await _rows(sdlc_reader)


async def test_events_wait_while_nats_is_down_and_go_out_after(
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    nats_server: NatsServer,
    nats_publisher: NatsEventPublisher,
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await sdlc_store.publish_pending("REQ-1", nats_publisher)
    nats_server.stop()
    await requirement.run(RESEARCH)

    with pytest.raises(DependencyUnavailable, match=r"NATS cannot be reached at 127\.0\.0\.1"):
        await sdlc_store.publish_pending("REQ-1", nats_publisher)
    assert await sdlc_store.numbers_with_pending_events() == ["REQ-1"]

    nats_server.start()
    await _publish_when_back(sdlc_store, nats_publisher)
    assert await _stream(nats_publisher) == await _rows(sdlc_reader)


async def _publish_when_back(store: PostgresSdlcStore, publisher: NatsEventPublisher) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await store.numbers_with_pending_events():
            try:
                await store.publish_pending("REQ-1", publisher)
            except DependencyUnavailable:
                await asyncio.sleep(0.05)
