"""Every deliverable that comes in is told, once: received by its run, or refused and why."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client

from adapters.nats.connection import NatsLogin
from adapters.nats.events import NatsEventPublisher
from adapters.remote.desk import attend
from adapters.remote.messages import Deliverable
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import RunEnd, StageState
from pipeline.remote_work import answer_subject
from tests.eventually import eventually_async
from tests.fixtures_sdlc import NatsServer
from tests.sdlc_factory import RESEARCH, Requirement, a_failure


def an_answer(run_id: str, agent: str, number: str = "REQ-1") -> bytes:
    return Deliverable(
        run_id=run_id, agent=agent, req_number=number, timestamp=datetime.now(UTC)
    ).encoded()


@dataclass
class Desk:
    """A desk, and agents that send what they like on their own subjects."""

    client: Client
    _store: PostgresSdlcStore
    _reader: SdlcReader
    _publisher: NatsEventPublisher

    async def attend(self) -> None:
        async def publish(number: str) -> int:
            return await self._store.publish_pending(number, self._publisher)

        await attend(self.client, "agog-desk-test", self._store.record_deliverable, publish)

    async def send(self, agent: str, number: str, said: bytes) -> None:
        await self.client.jetstream().publish(answer_subject(agent, number), said)

    async def told(self) -> list[tuple[str, object, object]]:
        found = await self._reader.events("REQ-1")
        return [
            (each.type.rpartition(".")[2], each.payload.get("reason"), each.payload.get("agent"))
            for each in found
            if each.type.startswith("deliverable.")
        ]

    async def until_told(self, number: int) -> list[tuple[str, object, object]]:
        async def are_told() -> bool:
            return len(await self.told()) >= number

        await eventually_async(are_told, f"{number} deliverables are told")
        return await self.told()


@pytest.fixture
async def desk(
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    nats_server: NatsServer,
    nats_publisher: NatsEventPublisher,
) -> AsyncIterator[Desk]:
    login = NatsLogin(nats_server.url, "agog", nats_server.password)
    async with login.connected() as client:
        yield Desk(client, sdlc_store, sdlc_reader, nats_publisher)


async def test_what_no_run_waits_for_is_refused_and_told(
    desk: Desk, sdlc_store: PostgresSdlcStore
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    running = requirement.request(RESEARCH).run_id
    sent = [
        ("cynthia", "REQ-1", b"\xff no JSON"),
        ("sylvia", "REQ-1", an_answer(running, "cynthia")),
        ("sylvia", "REQ-1", an_answer(running, "sylvia")),
        ("cynthia", "REQ-1", an_answer(running, "cynthia", "REQ-2")),
        ("cynthia", "REQ-1", an_answer(f"{running}9", "cynthia")),
        ("cynthia", "REQ-77", an_answer("REQ-77/wf/Research/1", "cynthia", "REQ-77")),
        ("cynthia", "REQ-1", an_answer("X", "cynthia").replace(b'"X"', b'"a\\u0000"')),
        ("cynthia", "REQ-1", an_answer(running, "cynthia")),
        ("cynthia", "REQ-1", an_answer(running, "cynthia")),
    ]
    for agent, number, said in sent:
        await desk.send(agent, number, said)

    attending = asyncio.create_task(desk.attend())
    told = await desk.until_told(8)
    attending.cancel()
    with suppress(asyncio.CancelledError):
        await attending

    assert told == [
        ("refused", "unreadable", None),
        ("refused", "wrong agent", "cynthia"),
        ("refused", "wrong agent", "sylvia"),
        ("refused", "wrong requirement", "cynthia"),
        ("refused", "stale", "cynthia"),
        ("refused", "unreadable", None),
        ("received", None, "cynthia"),
        ("refused", "repeated", "cynthia"),
    ]


async def test_what_comes_after_its_run_has_failed_is_stale_and_a_redelivery_is_told_once(
    desk: Desk, sdlc_store: PostgresSdlcStore
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    run_id = requirement.request(RESEARCH).run_id
    failure = a_failure(RESEARCH, f"run {RESEARCH}", owners=("cynthia",))
    await requirement.close_stage(
        RESEARCH, state=StageState.FAILED, end=RunEnd.TIMED_OUT, failure=failure
    )
    await desk.send("cynthia", "REQ-1", an_answer(run_id, "cynthia"))
    attending = asyncio.create_task(desk.attend())
    await desk.until_told(1)
    attending.cancel()
    with suppress(asyncio.CancelledError):
        await attending

    await desk.client.jetstream().delete_consumer("agog_agent_deliverables", "agog-desk-test")
    await desk.send("cynthia", "REQ-1", b"the last one")
    attending = asyncio.create_task(desk.attend())
    told = await desk.until_told(2)
    attending.cancel()
    with suppress(asyncio.CancelledError):
        await attending

    assert told == [("refused", "stale", "cynthia"), ("refused", "unreadable", None)]
