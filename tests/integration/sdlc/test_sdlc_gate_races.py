"""The P0 gate under fire: the order of committed rows is the proof, whatever raced with what."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import replace

import psycopg
import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from adapters.sdlc.store import PostgresSdlcStore, create_store
from pipeline.errors import RefusedInput
from pipeline.model import (
    BuildRequest,
    DeliveryRequest,
    Fix,
    FixOpening,
    Group,
    Head,
    Hold,
    Pipeline,
    Priority,
    RequirementState,
    StageContext,
)
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_sdlc import PostgresServer
from tests.sdlc_factory import (
    BACKEND,
    PLAN,
    RESEARCH,
    Requirement,
    a_failure,
    accept,
    an_order,
    begin,
)

CROWD = 200
HOSTS = 3
"""Workers with a connection pool each: a P0 is opened by one process, stages by others."""

_OPENED_LATER = """
    SELECT opened.number FROM phase_history opened, phase_history urgent
    WHERE urgent.number = %s AND urgent.stage = '' AND urgent.target = 'ACCEPTED'
      AND opened.stage <> '' AND opened.target = 'running' AND opened.id > urgent.id
"""
"""Ids are given to rows while the gate is held, so they stand in the order of its holders."""


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Sequence[PostgresSdlcStore]]:
    stores = [create_store(database_url) for _ in range(HOSTS)]
    yield stores
    for store in stores:
        await store.close()


async def query(database_url: str, statement: str, *values: str) -> Sequence[tuple[object, ...]]:
    address = database_url.replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(address) as connection:
        return await (await connection.execute(statement.encode(), values)).fetchall()


async def a_crowd(stores: Sequence[PostgresSdlcStore]) -> Sequence[Requirement]:
    numbers = [f"REQ-{each}" for each in range(CROWD)]
    await stores[0].accept_all([Acceptance(an_order(number), "") for number in numbers])
    crowd = [Requirement(stores[each % HOSTS], n) for each, n in enumerate(numbers)]
    await asyncio.gather(*(each.open() for each in crowd))
    return crowd


async def race(
    database_url: str,
    stores: Sequence[PostgresSdlcStore],
    crowd: Sequence[Requirement],
    nth: int,
) -> bool:
    """Openings of all and a P0's acceptance at once; whether some came before, and some after."""
    urgent = Requirement(stores[nth % HOSTS], f"REQ-P0-{nth}")
    calls: list[Awaitable[object]] = [each.try_stage(RESEARCH, nth) for each in crowd]
    calls.insert(
        random.Random(nth).randrange(CROWD // 2), accept(urgent.store, urgent.number, Priority.P0)
    )

    outcomes = await asyncio.gather(*calls)

    assert await query(database_url, _OPENED_LATER, urgent.number) == []
    holds = [outcome for outcome in outcomes if isinstance(outcome, Hold)]
    opened = sum(isinstance(outcome, StageContext) for outcome in outcomes)
    assert (len(holds) + opened, {hold.by for hold in holds} - {(urgent.number,)}) == (CROWD, set())
    await urgent.open()
    await urgent.close()
    assert len((await stores[0].to_notify()).workflow_ids) == len(holds)
    return bool(holds and opened)


async def test_no_opening_slips_through_beside_a_p0(
    database_url: str, stores: Sequence[PostgresSdlcStore]
) -> None:
    crowd = await a_crowd(stores)
    mixed = [await race(database_url, stores, crowd, nth) for nth in range(1, 7)]
    assert sum(mixed) > len(mixed) / 2


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_no_opening_slips_through_however_often_it_is_tried(
    database_url: str, stores: Sequence[PostgresSdlcStore]
) -> None:
    crowd = await a_crowd(stores)
    mixed = [await race(database_url, stores, crowd, nth) for nth in range(1, 101)]
    assert sum(mixed) > len(mixed) / 2


async def test_blocker_is_delivered_while_it_is_taken_back(
    stores: Sequence[PostgresSdlcStore], postgres_server: PostgresServer
) -> None:
    """Whoever moves the gate has it before any blocker: else the two would wait for each other."""
    before = deadlocks(postgres_server)
    for nth in range(30):
        blocker = await begin(stores[0], f"REQ-{nth}-1")
        ours = await begin(stores[1], f"REQ-{nth}-2", blocked_by=(blocker.number,))
        urgent = await begin(stores[2], f"REQ-{nth}-0", Priority.P0, (ours.number, blocker.number))
        taken_back = stores[1].remove_blocker(ours.number, blocker.number)
        outcomes = await asyncio.gather(
            blocker.close(),
            taken_back,
            urgent.close(RequirementState.CANCELLED),
            return_exceptions=True,
        )
        assert {type(each) for each in outcomes} <= {type(None), RefusedInput}, outcomes
        await ours.close()
    assert deadlocks(postgres_server) == before


def deadlocks(server: PostgresServer) -> int:
    """How often PostgreSQL has had to end one, by its log."""
    return (server.directory / "log").read_text(errors="replace").count("deadlock detected")


async def test_everything_at_once_ends_without_a_deadlock(
    stores: Sequence[PostgresSdlcStore], postgres_server: PostgresServer, sdlc_reader: SdlcReader
) -> None:
    """P0s come and go beside stages, builds, deliveries and blockers of everybody."""
    before = deadlocks(postgres_server)
    crowd = [await begin(stores[each % HOSTS], f"REQ-{each}") for each in range(30)]
    for nth in range(4):
        first, second = f"REQ-P0-{nth}a", f"REQ-P0-{nth}b"
        calls: list[Awaitable[object]] = [
            *(each.try_stage(RESEARCH) for each in crowd[::3]),
            *(open_build(each, nth) for each in crowd[1::3]),
            *(pass_delivery(each, nth) for each in crowd[2::3]),
            *(_come_and_go(store, n) for store, n in zip(stores, (first, second), strict=False)),
            *(_block_and_unblock(stores[2], crowd[each], crowd[each + 1]) for each in range(9)),
        ]
        random.Random(nth).shuffle(calls)
        await asyncio.gather(*calls)

    assert deadlocks(postgres_server) == before
    notification = await stores[0].to_notify()
    views = [await sdlc_reader.requirement(each.number) for each in crowd]
    # Whoever asked while no P0 was open, and another one delivered, stands in line since.
    in_line = {view.number: view.turn for view in views if view.turn}
    held = {*notification.workflow_ids, *in_line}
    assert all(turn.delivering or notification.turns for turn in in_line.values())
    assert {view.number for view in views if view.holds} == held
    assert {view.number for view in views if view.state is RequirementState.HELD} == held


async def open_build(each: Requirement, nth: int) -> object:
    request = BuildRequest(each.ref, "backend", BACKEND, "roy", Head("c1", 1), str(nth), True)
    return await each.store.open_build(request, each.number)


async def pass_delivery(each: Requirement, nth: int) -> object:
    request = DeliveryRequest(each.ref, Head("c1", 1), "main", nth, ())
    return await each.store.pass_delivery(request, each.number, "here", is_verified=True)


async def _come_and_go(store: PostgresSdlcStore, number: str) -> None:
    urgent = await begin(store, number, Priority.P0)
    await urgent.close()


async def _block_and_unblock(store: PostgresSdlcStore, one: Requirement, two: Requirement) -> None:
    await store.add_blocker(one.number, two.number)
    await store.remove_blocker(one.number, two.number)


async def test_p0_comes_through_a_storm_of_openings(
    database_url: str, stores: Sequence[PostgresSdlcStore]
) -> None:
    """Those who share the gate never leave it alone; whoever wants it for himself must get it."""
    crowd = [await begin(stores[0], f"REQ-{each}") for each in range(20)]
    calm = asyncio.Event()

    async def storm(each: Requirement, store: PostgresSdlcStore) -> None:
        while not calm.is_set():
            await pass_delivery(Requirement(store, each.number), 1)

    storms = [asyncio.create_task(storm(each, stores[nth % 2])) for nth, each in enumerate(crowd)]
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            for nth in range(10):
                await _come_and_go(stores[2], f"REQ-P0-{nth}")
    finally:
        calm.set()
        await asyncio.gather(*storms)


async def test_p0_ends_while_a_fix_of_it_is_named_as_a_blocker(
    stores: Sequence[PostgresSdlcStore], postgres_server: PostgresServer
) -> None:
    """Its end closes the rows of fixes that never began, which are locked before the gate too."""
    before = deadlocks(postgres_server)
    for nth in range(30):
        urgent = await begin(stores[0], f"REQ-P0-{nth}", Priority.P0)
        fixes = await open_fixes(urgent)
        ours = await begin(stores[1], f"REQ-{nth}")
        refused = [stores[2].add_blocker(ours.number, fix) for fix in fixes]

        outcomes = await asyncio.gather(urgent.close(), *refused, return_exceptions=True)

        assert [type(each) for each in outcomes] == [type(None), *([RefusedInput] * len(fixes))]
        await ours.close()
    assert deadlocks(postgres_server) == before


async def open_fixes(requirement: Requirement) -> Sequence[str]:
    """Fixes that have got no further than their rows."""
    failure = a_failure()
    task = replace(PLAN.stage(BACKEND), needs=())
    numbers = [f"{requirement.number}-FIX-{each}" for each in (1, 2, 3)]
    fixes = tuple(Fix(n, requirement.number, 1, "roy", BACKEND, failure, task) for n in numbers)
    plan = Pipeline("fix", (Group(task.group),), (task,))
    orders = tuple(replace(an_order(n), pipeline=plan) for n in numbers)
    await requirement.store.open_fixes(FixOpening(requirement.ref, 1, fixes, orders))
    return numbers
