"""A requirement moves from a lost host, or not; the row of its host is the fence."""

from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore, create_store
from pipeline.answers import read_run
from pipeline.errors import HostBack, HostLost, RequirementMoved
from pipeline.lost_hosts import Moving
from pipeline.model import (
    DeliveryRequest,
    Fix,
    FixMerge,
    FixMerged,
    Head,
    Hold,
    Priority,
    RequirementState,
    RunEnd,
    RunResult,
    StageContext,
    StageState,
)
from tests.sdlc_factory import (
    BACKEND,
    CRITIQUE,
    PLAN,
    RESEARCH,
    START,
    Requirement,
    a_failure,
    begin,
    begin_fix,
)

LOST, NEW, THIRD = "host-1", "host-2", "host-3"
RUN = f"REQ-1/wf-1/{RESEARCH}/1"


@pytest.fixture
async def here(database_url: str) -> AsyncIterator[PostgresSdlcStore]:
    """The store of the host that gets lost."""
    store = create_store(database_url, host=LOST)
    yield store
    await store.close()


@pytest.fixture
async def there(database_url: str) -> AsyncIterator[PostgresSdlcStore]:
    """The store of the host that continues."""
    store = create_store(database_url, host=NEW)
    yield store
    await store.close()


async def found(there: PostgresSdlcStore, number: str = "REQ-1") -> tuple[Moving, str]:
    """What would move, and the last beat of the host that is lost."""
    what = await there.moving(number, LOST)
    assert what
    return what, (await there.beat(NEW)).beats[LOST]


async def moved(there: PostgresSdlcStore, host: str = NEW) -> Moving:
    what, beat = await found(there)
    await there.move(what, host, beat)
    return what


async def deliver(store: PostgresSdlcStore, each: Requirement, commit: str = "c1") -> Hold | None:
    request = DeliveryRequest(each.ref, Head(commit, 1), "main", 1)
    return await store.pass_delivery(request, each.number, "node:/srv", is_verified=True)


async def test_only_hosts_with_work_are_heard(
    here: PostgresSdlcStore, there: PostgresSdlcStore
) -> None:
    await here.beat(LOST)
    assert (await there.beat(NEW)).beats == {}
    requirement = await Requirement(here).begun()
    first = (await there.beat(NEW)).beats
    assert set(first) == {LOST}

    await here.beat(LOST)
    assert (await there.beat(NEW)).beats != first
    await requirement.close()
    assert (await there.beat(NEW)).beats == {}
    await here.beat(LOST, may_be_lost=False)
    await begin(here, "REQ-2")
    assert (await there.beat(NEW)).beats == {}


Act = Callable[[PostgresSdlcStore, Requirement], Awaitable[object]]


async def close_research(store: PostgresSdlcStore, each: Requirement) -> None:
    await Requirement(store, each.number).close_stage(RESEARCH)


async def start_research(store: PostgresSdlcStore, each: Requirement) -> None:
    """Its host was lost after the start of the program, and before that was recorded."""
    await store.start_run(each.request(RESEARCH), START, "base", "session")


async def prepare_research(store: PostgresSdlcStore, each: Requirement) -> None:
    await store.start_preparing(each.request(RESEARCH), ["backend"])


async def record_build(store: PostgresSdlcStore, each: Requirement) -> None:
    await Requirement(store, each.number).build()


async def merge_fix(store: PostgresSdlcStore, each: Requirement) -> None:
    failure = a_failure(BACKEND, "build backend")
    fix = Fix("REQ-1-FIX-1", "REQ-1", 1, "roy", BACKEND, failure, PLAN.stage(BACKEND))
    await store.merge_fix(FixMerge(each.ref, 1, fix, "c1"), FixMerged(Head("c2", 2), True))


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda store, each: store.open_stage(each.request(CRITIQUE), "w"), id="start"),
        pytest.param(
            lambda store, each: store.queue_stage(each.request(CRITIQUE), "w"), id="queue"
        ),
        pytest.param(lambda store, each: store.open_build(each.build_request(), "w"), id="build"),
        pytest.param(close_research, id="record a result"),
        pytest.param(start_research, id="record a start"),
        pytest.param(prepare_research, id="record a preparation"),
        pytest.param(record_build, id="record a build"),
        pytest.param(merge_fix, id="record the merge of a fix"),
        pytest.param(deliver, id="deliver"),
    ],
)
async def test_a_host_that_comes_back_does_nothing_for_what_has_moved(
    here: PostgresSdlcStore, there: PostgresSdlcStore, sdlc_reader: SdlcReader, act: Act
) -> None:
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    await requirement.open_stage(RESEARCH)
    await moved(there)
    before = await sdlc_reader.requirement("REQ-1")

    with pytest.raises(RequirementMoved) as refusal:
        await act(here, requirement)

    assert (refusal.value.lost, refusal.value.host) == (LOST, NEW)
    assert await sdlc_reader.requirement("REQ-1") == before
    assert (await here.beat(LOST)).moved == {"REQ-1": NEW}
    await act(there, requirement)  # what is refused there is allowed here


async def test_a_run_that_was_started_is_lost_and_one_that_was_not_is_the_same(
    here: PostgresSdlcStore, there: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    await requirement.open_stage(RESEARCH)
    await here.start_run(requirement.request(RESEARCH), START, "base")
    await requirement.open_stage(CRITIQUE)
    await moved(there)

    started = await there.open_stage(requirement.request(RESEARCH), "w")
    fresh = await there.open_stage(requirement.request(CRITIQUE), "w")

    assert isinstance(started, StageContext)
    assert isinstance(fresh, StageContext)
    assert (started.lost_on, started.lost_result) == (LOST, None)
    assert (fresh.lost_on, fresh.started_at) == ("", None)
    runs = {run.stage: run.host for run in await sdlc_reader.runs("REQ-1")}
    assert runs == {RESEARCH: LOST, CRITIQUE: NEW}


async def test_a_result_that_was_recorded_before_is_not_paid_twice(
    here: PostgresSdlcStore, there: PostgresSdlcStore
) -> None:
    """The lost host has closed the run, and could not tell its workflow any more."""
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    await requirement.open_stage(RESEARCH)
    await here.start_run(requirement.request(RESEARCH), START, "base")
    await requirement.close_stage(RESEARCH)
    await moved(there)

    context = await there.open_stage(requirement.request(RESEARCH), "w")

    assert isinstance(context, StageContext)
    assert context.lost_result
    reading = read_run(requirement.request(RESEARCH), context.lost_result)
    assert (reading.state, reading.failure) == (StageState.COMPLETED, None)
    assert reading.notice
    assert reading.notice.summary == "Done."


async def test_what_a_lost_run_has_cost_is_recorded_once_its_host_is_back(
    here: PostgresSdlcStore, there: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    await requirement.open_stage(RESEARCH)
    await here.start_run(requirement.request(RESEARCH), START, "base")
    await moved(there)
    lost = Requirement(there)
    await lost.close_stage(RESEARCH, state=StageState.COMPLETED, end=RunEnd.HOST_LOST)
    (run,) = await sdlc_reader.runs("REQ-1")
    assert (run.end, run.seconds) == (RunEnd.HOST_LOST, None)

    (left,) = await here.leftovers(LOST)
    ended = RunResult(RunEnd.CANCELLED, None, "", "", START, START.replace(hour=10), 1, "log")
    for _ in range(2):
        await here.record_ends(left.ref.number, {RUN: ended}, LOST)
        await here.note_leftover("REQ-1", "", LOST)

    (run,) = await sdlc_reader.runs("REQ-1")
    assert (run.end, run.seconds) == (RunEnd.HOST_LOST, 3600)
    assert await here.leftovers(LOST) == []


async def test_a_returned_host_ends_no_run_that_another_host_has_started_under_the_same_id(
    here: PostgresSdlcStore, there: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    await requirement.open_stage(RESEARCH)
    await moved(there)
    await there.start_run(requirement.request(RESEARCH), START, "base")

    ended = RunResult(RunEnd.CANCELLED, None, "", "", START, START, 1, "log")
    await here.record_ends("REQ-1", {RUN: ended}, LOST)

    (run,) = await sdlc_reader.runs("REQ-1")
    assert (run.end, run.state, run.seconds) == (None, StageState.RUNNING, None)


async def test_fixes_move_with_what_they_repair(
    here: PostgresSdlcStore, there: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    fix = await begin_fix(requirement)
    what, beat = await found(there, fix.number)
    assert [part.number for part in what.parts] == ["REQ-1", fix.number]

    for _ in range(2):
        await there.move(what, NEW, beat)

    for number in ("REQ-1", fix.number):
        assert (await sdlc_reader.requirement(number)).host == NEW
    assert (await here.beat(LOST)).moved == {"REQ-1": NEW, fix.number: NEW}
    told = [each for each in await sdlc_reader.events("REQ-1") if each.type == "workflow.moved"]
    assert len(told) == 1
    # A workflow below it hears of the move when it asks the lost host.
    with pytest.raises(RequirementMoved):
        await there.moving(fix.number, LOST)


async def test_nothing_moves_from_a_host_that_is_back(
    here: PostgresSdlcStore, there: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    await Requirement(here).begun()
    await here.beat(LOST)
    what, beat = await found(there)
    await here.beat(LOST)

    with pytest.raises(HostBack):
        await there.move(what, NEW, beat)

    assert (await sdlc_reader.requirement("REQ-1")).host == LOST


async def test_one_of_two_hosts_gets_it_and_it_never_returns(
    here: PostgresSdlcStore, there: PostgresSdlcStore
) -> None:
    await Requirement(here).begun()
    await here.beat(LOST)
    what, beat = await found(there)
    await there.move(what, THIRD, beat)

    with pytest.raises(RequirementMoved) as refusal:
        await there.move(what, NEW, beat)
    assert refusal.value.host == THIRD

    again = await there.moving("REQ-1", THIRD)
    assert again
    assert again.left == [LOST]


async def test_a_delivery_that_may_have_happened_asks_a_human_and_moves_after_the_answer(
    here: PostgresSdlcStore, there: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    what, beat = await found(there)
    assert await deliver(here, requirement, "c0ffee") is None

    with pytest.raises(HostLost, match="delivering c0ffee to main of node:/srv"):
        await there.move((await found(there))[0], NEW, beat)
    with pytest.raises(HostLost):  # it began to deliver only after another host had looked
        await there.move(what, NEW, beat)
    assert (await sdlc_reader.requirement("REQ-1")).host == LOST

    await there.leave_line("REQ-1", keeps_place=False)  # the delivery has failed, and is retried
    await moved(there)
    assert (await sdlc_reader.requirement("REQ-1")).host == NEW


async def test_a_delivery_whose_turn_a_p0_has_taken_may_have_happened_too(
    here: PostgresSdlcStore, there: PostgresSdlcStore
) -> None:
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    assert await deliver(here, requirement, "c0ffee") is None
    urgent = await begin(here, "REQ-URGENT", Priority.P0)
    assert await deliver(here, urgent, "beef") is None
    what, beat = await found(there)

    with pytest.raises(HostLost, match="delivering c0ffee to main of node:/srv"):
        await there.move(what, NEW, beat)


async def test_who_waits_behind_a_requirement_that_moves_is_next(
    here: PostgresSdlcStore, there: PostgresSdlcStore, database_url: str
) -> None:
    first, second = await Requirement(here).begun(), await begin(here, "REQ-2")
    await here.beat(LOST)
    for each in (first, second):
        request = DeliveryRequest(each.ref, Head("c1", 1), "main", 1)
        await here.pass_delivery(request, each.number, "node:/srv", is_verified=False)
    assert (await here.to_notify()).turns == ()

    await moved(there)

    assert (await here.to_notify()).turns == ("REQ-2",)
    address = database_url.replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(address) as connection:
        rows = await connection.execute("SELECT number, lost, host FROM moves")
        assert await rows.fetchall() == [("REQ-1", LOST, NEW)]


async def test_what_has_ended_does_not_move(
    here: PostgresSdlcStore, there: PostgresSdlcStore
) -> None:
    requirement = await Requirement(here).begun()
    await here.beat(LOST)
    await moved(there)
    await requirement.close(RequirementState.CANCELLED)

    assert (await here.beat(LOST)).moved == {}
    assert (await there.beat(NEW)).beats == {}
