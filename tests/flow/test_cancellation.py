import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import CancelledError

from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    Answer,
    Closing,
    DecisionRequest,
    RequirementState,
    RetryRequest,
    StageState,
)
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.house import REPAIR, Handle, House, retry_when_possible, until
from tests.orchestra_plans import PAIR, SOLO
from workflows.requirement import RequirementWorkflow

ROY, JEN = "Backend Implementation", "Frontend Implementation"
CRASH = Script(exit_code=1, output="no notice here", minutes=500)
FAIL = Script({"test_result": "FAIL", "failures": ["wrong"]}, minutes=1)
BEAT = timedelta(seconds=5)
SHORT_BEAT = timedelta(seconds=1)
"""A cancellation reaches an activity with its heartbeat."""
BUILD = "build backend"


async def until_failed(house: House, stage: str) -> None:
    async def has_failed() -> bool:
        events = await house.events()
        return any(e["eventType"] == "stage.failed" and e["stage"] == stage for e in events)

    await until(has_failed, f"{stage} has failed")


async def until_heeded(handle: Handle) -> None:
    """The workflow has seen the cancellation; an answer of the same moment comes before it."""
    asked = EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED

    async def is_heeded() -> bool:
        return any(e.event_type == asked for e in (await handle.fetch_history()).events)

    await until(is_heeded, "the cancellation is heeded")


async def check_cancelled(handle: Handle) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)


async def test_cancelled_requirement_starts_no_further_attempt(house: House) -> None:
    """The agent crashes of itself before the cancellation reaches it."""
    await house.open({ROY: [CRASH, Script()]})
    handle = await house.start()
    await house.until_running(ROY)

    await handle.cancel()
    await check_cancelled(handle)

    assert house.runs.started().count(ROY) == 1
    assert (await house.types())[-2:] == ["workflow.cancelled", "workflow.performance"]


async def test_cancellation_during_the_opening_starts_nothing(house: House) -> None:
    await house.open()
    handle = await house.start()
    await handle.cancel()
    await check_cancelled(handle)

    assert house.runs.started() == []


async def test_cancellation_reaches_a_stage_that_was_retried_meanwhile(house: House) -> None:
    slow = Script(minutes=40_000)
    await house.open({"Backend QA": [FAIL, slow], "Frontend QA": [slow]})
    handle = await house.start("critical-path", heartbeat=BEAT)
    await retry_when_possible(handle, "Backend QA")
    await house.until_running("Backend QA", 2)

    await handle.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await check_cancelled(handle)

    assert {run_id.split("/")[2] for run_id in house.runs.ended if run_id.count("/") == 3} == {
        "Backend QA",
        "Frontend QA",
    }


async def test_answer_is_refused_once_the_cancellation_is_under_way(house: House) -> None:
    failed = Script({"status": "FAILED", "summary": "no"}, minutes=1)
    await house.open({ROY: [failed, Script()], JEN: [Script(minutes=40_000)]})
    handle = await house.start(heartbeat=BEAT)
    await until_failed(house, ROY)
    await house.until_running(JEN)

    await handle.cancel()
    await until_heeded(handle)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(RequirementWorkflow.retry, RetryRequest(ROY, "ada"))
    await check_cancelled(handle)

    assert house.runs.started().count(ROY) == 1


async def test_retry_beside_an_abort_starts_nothing_after_it(house: House) -> None:
    failed = Script({"status": "FAILED", "summary": "no"}, minutes=1)
    await house.open({"Research": [failed, Script()]})
    handle = await house.start()
    await house.until_blocked(handle)

    abort, retry = await asyncio.gather(
        handle.execute_update(RequirementWorkflow.decide, DecisionRequest(Answer.ABORT, "ada")),
        handle.execute_update(RequirementWorkflow.retry, RetryRequest("Research", "bob")),
        return_exceptions=True,
    )
    report = await handle.result()

    assert not isinstance(abort, BaseException)
    assert report.state == "FAILED"
    assert (await house.types())[-2:] == ["workflow.failed", "workflow.performance"]
    if isinstance(retry, BaseException):
        assert house.runs.started().count("Research") == 1


async def test_requirement_at_work_is_given_up_with_its_agents(house: House) -> None:
    await house.open({ROY: [Script(minutes=40_000)]})
    handle = await house.start(SOLO, heartbeat=BEAT)
    await house.until_running(ROY)
    abort = DecisionRequest(Answer.ABORT, "ada", "Not needed")

    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(2):  # the answer to the first one may be lost
            await handle.execute_update(RequirementWorkflow.decide, abort)
        report = await handle.result()

    assert (report.state, report.reason) == ("FAILED", "Aborted by ada. Not needed")
    assert house.runs.order(ROY).run_id in house.runs.ended
    assert (await house.types())[-2:] == ["workflow.failed", "workflow.performance"]


async def test_abort_is_refused_once_the_end_has_begun(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing, may_close = asyncio.Event(), asyncio.Event()
    close = house.store.close_requirement

    async def close_later(end: Closing) -> None:
        closing.set()
        await may_close.wait()
        await close(end)

    monkeypatch.setattr(house.store, "close_requirement", close_later)
    await house.open()
    handle = await house.start(SOLO)
    await closing.wait()

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(
            RequirementWorkflow.decide, DecisionRequest(Answer.ABORT, "ada")
        )
    may_close.set()

    assert "the requirement is ending" in str(refused.value.cause)
    assert (await handle.result()).state == "DELIVERED"


async def test_cancelled_requirement_ends_its_fixes_first(
    house: House, sdlc_reader: SdlcReader
) -> None:
    crash = Script(exit_code=1, output="no notice")
    slow = Script(minutes=600_000)
    await house.open({"Research": [crash], "Fix run Research": [slow]})
    handle = await house.start(bounds=REPAIR, heartbeat=timedelta(seconds=1))
    await house.until_running("Fix run Research")

    await handle.cancel()
    await check_cancelled(handle)

    fix = f"{house.number}-FIX-1"
    states = {(await sdlc_reader.requirement(n)).state for n in (house.number, fix)}
    assert states == {RequirementState.CANCELLED}
    assert any(run_id.startswith(fix) for run_id in house.runs.ended)
    ended = [await last_change(sdlc_reader, number) for number in (fix, house.number)]
    assert ended == sorted(ended)


async def last_change(reader: SdlcReader, number: str) -> datetime:
    return (await reader.phases(number))[-1].at


# --- at every step of its way ---------------------------------------------------------------------
#
# Elsewhere: while it is held by a P0 (test_line.py), suspended (test_pre_emption.py), held by an
# outage (test_outages.py), in line to deliver (test_delivery_turns.py).


async def queue_for_a_slot(house: House) -> Handle:
    house.runs.slots = 0
    handle = await house.start(SOLO, heartbeat=SHORT_BEAT)
    await until_asked(house)
    return handle


async def run_beside_each_other(house: House) -> Handle:
    house.runs.by_number[house.number] = Script(lasts=True)
    handle = await house.start(PAIR, heartbeat=SHORT_BEAT)
    await house.until_running(ROY)
    await house.until_running(JEN)
    return handle


async def build(house: House) -> Handle:
    house.builds.hold(house.number)
    handle = await house.start(SOLO, heartbeat=SHORT_BEAT)
    await until_building(house)
    return handle


async def build_what_a_fix_has_repaired(house: House) -> Handle:
    handle = await house.start(SOLO, bounds=REPAIR, heartbeat=SHORT_BEAT)
    await house.until_running(f"Fix {BUILD}")
    house.builds.hold(house.number)
    await house.runs.let_end()
    await until_building(house, 2)
    return handle


async def ask_a_human(house: House) -> Handle:
    house.runs.by_number[house.number] = Script({"status": "BLOCKED", "summary": "which one?"})
    handle = await house.start(SOLO, heartbeat=SHORT_BEAT)
    await house.until_blocked(handle)
    return handle


async def until_asked(house: House) -> None:
    async def has_asked() -> bool:
        return house.runs.claims > 0

    await until(has_asked, "it asks for a slot")


async def until_building(house: House, count: int = 1) -> None:
    async def is_building() -> bool:
        return len(house.builds.requests) == count

    await until(is_building, f"build {count} runs")


@pytest.mark.parametrize(
    "reach",
    [queue_for_a_slot, run_beside_each_other, build, build_what_a_fix_has_repaired, ask_a_human],
)
async def test_requirement_is_cancelled_wherever_it_is(
    house: House, sdlc_reader: SdlcReader, reach: Callable[[House], Awaitable[Handle]]
) -> None:
    lasting = [Script(lasts=True)]
    await house.open({f"Fix {BUILD}": lasting}, {"backend": [2, 0]})
    handle = await reach(house)
    started = house.runs.started()

    async with asyncio.timeout(PATIENCE_SECONDS):
        await handle.cancel()
        await check_cancelled(handle)

    view = await sdlc_reader.requirement(house.number)
    states = {stage.state for stage in view.stages}
    assert view.state is RequirementState.CANCELLED
    assert not states & {StageState.RUNNING, StageState.HELD}
    assert (view.holds, view.queued, view.leftover, view.escalation) == ((), (), None, None)
    assert (await house.types())[-2:] == ["workflow.cancelled", "workflow.performance"]
    await house.runs.let_end()
    assert house.runs.started() == started
    assert house.runs.used == 0


@pytest.mark.parametrize("step", ["pass_delivery", "close_requirement"])
async def test_cancellation_of_what_is_delivered_in_this_moment_comes_too_late(
    house: House, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A swap of the target, or a row that says so, is not taken back."""
    is_reached, may_go_on = asyncio.Event(), asyncio.Event()
    go_on = getattr(house.store, step)

    async def later(*arguments: object, **named: object) -> object:
        is_reached.set()
        await may_go_on.wait()
        return await go_on(*arguments, **named)

    monkeypatch.setattr(house.store, step, later)
    await house.open()
    handle = await house.start(SOLO)
    await is_reached.wait()

    await handle.cancel()
    may_go_on.set()

    assert (await handle.result()).state is RequirementState.DELIVERED
    assert (await sdlc_reader.requirement(house.number)).state is RequirementState.DELIVERED
    assert "workflow.cancelled" not in await house.types()
