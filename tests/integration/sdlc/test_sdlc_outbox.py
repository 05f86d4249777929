import asyncio
from collections.abc import Sequence

import pytest

from adapters.nats.events import NatsEventPublisher
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import DependencyUnavailable
from pipeline.events import Event
from tests.sdlc_factory import Requirement

NUMBERS = tuple(f"REQ-{index}" for index in range(1, 9))


class Observed:
    """A real publisher that counts its calls and can be held up."""

    def __init__(self, publisher: NatsEventPublisher) -> None:
        self._publisher = publisher
        self.calls = 0
        self.is_called = asyncio.Event()
        self.may_proceed = asyncio.Event()
        self.may_proceed.set()

    async def publish(self, events: Sequence[Event]) -> None:
        self.calls += 1
        self.is_called.set()
        await self.may_proceed.wait()
        await self._publisher.publish(events)


class Refusing:
    """A server that will not have the events of one requirement."""

    def __init__(self, publisher: NatsEventPublisher, refused: str) -> None:
        self._publisher = publisher
        self._refused = refused

    async def publish(self, events: Sequence[Event]) -> None:
        if any(event.number == self._refused for event in events):
            raise DependencyUnavailable("NATS", "nats://here", "Too large.")
        await self._publisher.publish(events)


@pytest.fixture
async def begun(sdlc_store: PostgresSdlcStore) -> None:
    for number in NUMBERS:
        await Requirement(sdlc_store, number).begun()


@pytest.mark.usefixtures("begun")
async def test_requirements_that_publish_at_once_share_a_transaction(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader, nats_publisher: NatsEventPublisher
) -> None:
    publisher = Observed(nats_publisher)

    sent = await asyncio.gather(
        *(sdlc_store.publish_pending(number, publisher) for number in NUMBERS)
    )

    assert sent == [len(await sdlc_reader.events(number)) for number in NUMBERS]
    assert publisher.calls == 1
    assert await sdlc_store.numbers_with_pending_events() == []


@pytest.mark.usefixtures("begun")
async def test_what_comes_while_a_batch_is_out_goes_with_the_next(
    sdlc_store: PostgresSdlcStore, nats_publisher: NatsEventPublisher
) -> None:
    publisher = Observed(nats_publisher)
    publisher.may_proceed.clear()
    first = asyncio.create_task(sdlc_store.publish_pending(NUMBERS[0], publisher))
    await publisher.is_called.wait()
    others = [
        asyncio.create_task(sdlc_store.publish_pending(number, publisher)) for number in NUMBERS[1:]
    ]
    publisher.may_proceed.set()

    assert all(await asyncio.gather(first, *others))
    assert publisher.calls == 2


@pytest.mark.usefixtures("begun")
async def test_a_cancelled_caller_leaves_the_others_events_on_their_way(
    sdlc_store: PostgresSdlcStore, nats_publisher: NatsEventPublisher
) -> None:
    publisher = Observed(nats_publisher)
    publisher.may_proceed.clear()
    callers = [
        asyncio.create_task(sdlc_store.publish_pending(number, publisher)) for number in NUMBERS
    ]
    await publisher.is_called.wait()
    callers[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await callers[0]
    publisher.may_proceed.set()

    assert all(await asyncio.gather(*callers[1:]))
    assert await sdlc_store.numbers_with_pending_events() == []


@pytest.mark.usefixtures("begun")
async def test_what_the_server_refuses_of_one_does_not_hold_up_the_others(
    sdlc_store: PostgresSdlcStore, nats_publisher: NatsEventPublisher
) -> None:
    publisher = Refusing(nats_publisher, NUMBERS[2])

    outcomes = await asyncio.gather(
        *(sdlc_store.publish_pending(number, publisher) for number in NUMBERS),
        return_exceptions=True,
    )

    refused = [isinstance(outcome, DependencyUnavailable) for outcome in outcomes]
    assert refused == [number == NUMBERS[2] for number in NUMBERS]
    assert await sdlc_store.numbers_with_pending_events() == [NUMBERS[2]]
