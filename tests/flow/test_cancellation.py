import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import CancelledError

from adapters.git import GitWorkspaces
from adapters.sdlc.reader import SdlcReader
from pipeline.errors import ProjectRefused
from pipeline.model import (
    Answer,
    DecisionRequest,
    RequirementState,
    RetryRequest,
    RunResult,
    StageState,
)
from tests.cluster import REPAIR, Cluster, Handle, ended, retry_when_possible, until
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script
from tests.orchestra_plans import PAIR, SOLO, team_of
from workflows import options
from workflows.requirement import RequirementWorkflow

ROY, JEN = "Backend Implementation", "Frontend Implementation"
CRASH = Script(exit_code=1, output="no notice here", lasts=True)
FAIL = Script({"test_result": "FAIL", "failures": ["wrong"]}, minutes=1)
BEAT = timedelta(seconds=5)
SHORT_BEAT = timedelta(seconds=1)
"""A cancellation reaches an activity with its heartbeat."""
BUILD = "build backend"


async def until_failed(cluster: Cluster, stage: str) -> None:
    async def has_failed() -> bool:
        events = await cluster.events()
        return any(e["eventType"] == "stage.failed" and e["stage"] == stage for e in events)

    await until(has_failed, f"{stage} has failed")


async def until_heeded(handle: Handle) -> None:
    """The workflow has seen the cancellation; an answer of the same moment comes before it."""
    asked = EventType.EVENT_TYPE_ACTIVITY_TASK_CANCEL_REQUESTED

    async def is_heeded() -> bool:
        return any(e.event_type == asked for e in (await handle.fetch_history()).events)

    await until(is_heeded, "the cancellation is heeded")


def held_at(cluster: Cluster, step: str) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold everybody at that step of the store: it has been reached, it may proceed."""
    is_reached, may_proceed = asyncio.Event(), asyncio.Event()
    proceed = getattr(cluster.store, step)

    async def later(*arguments: object, **named: object) -> object:
        is_reached.set()
        await may_proceed.wait()
        return await proceed(*arguments, **named)

    setattr(cluster.store, step, later)
    return is_reached, may_proceed


def agents_end_later(cluster: Cluster) -> asyncio.Event:
    """Whoever is ended lives on until that is set, and with it what waits for its end."""
    may_end = asyncio.Event()
    end = cluster.runs.end

    async def later(run_id: str) -> RunResult:
        await may_end.wait()
        return await end(run_id)

    cluster.runs.end = later  # type: ignore[method-assign] # a stubborn agent
    return may_end


async def check_cancelled(handle: Handle) -> None:
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)


async def test_cancelled_requirement_starts_no_further_attempt(cluster: Cluster) -> None:
    """The agent crashes of itself before the cancellation reaches it."""
    await cluster.open({ROY: [CRASH, Script()]})
    handle = await cluster.start()
    await cluster.until_running(ROY)

    await handle.cancel()
    await until_heeded(handle)
    await cluster.runs.let_end()
    await check_cancelled(handle)

    assert cluster.runs.started().count(ROY) == 1
    assert (await cluster.types())[-2:] == ["workflow.cancelled", "workflow.performance"]


async def test_cancellation_during_the_opening_starts_nothing(cluster: Cluster) -> None:
    is_reached, may_proceed = held_at(cluster, "pass_opening")
    await cluster.open()
    handle = await cluster.start()
    await is_reached.wait()
    await handle.cancel()
    await until_heeded(handle)
    may_proceed.set()
    await check_cancelled(handle)

    assert cluster.runs.started() == []


async def test_cancellation_reaches_a_stage_that_was_retried_meanwhile(cluster: Cluster) -> None:
    slow = Script(lasts=True)
    await cluster.open({"Backend QA": [FAIL, slow], "Frontend QA": [slow]})
    handle = await cluster.start("critical-path", heartbeat=BEAT)
    await retry_when_possible(handle, "Backend QA")
    await cluster.until_running("Backend QA", 2)

    await handle.cancel()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await check_cancelled(handle)

    assert {run_id.split("/")[2] for run_id in cluster.runs.ended if run_id.count("/") == 3} == {
        "Backend QA",
        "Frontend QA",
    }


async def test_answer_is_refused_once_the_cancellation_is_under_way(cluster: Cluster) -> None:
    failed = Script({"status": "FAILED", "summary": "no"}, minutes=1)
    await cluster.open({ROY: [failed, Script()], JEN: [Script(lasts=True)]})
    may_end = agents_end_later(cluster)
    handle = await cluster.start(heartbeat=BEAT)
    await until_failed(cluster, ROY)
    await cluster.until_running(JEN)

    await handle.cancel()
    await until_heeded(handle)
    with pytest.raises(WorkflowUpdateFailedError):
        await handle.execute_update(RequirementWorkflow.retry, RetryRequest(ROY, "ada"))
    may_end.set()
    await check_cancelled(handle)

    assert cluster.runs.started().count(ROY) == 1


async def test_retry_beside_an_abort_starts_nothing_after_it(cluster: Cluster) -> None:
    failed = Script({"status": "FAILED", "summary": "no"}, minutes=1)
    await cluster.open({"Research": [failed, Script()]})
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    abort, retry = await asyncio.gather(
        handle.execute_update(RequirementWorkflow.decide, DecisionRequest(Answer.ABORT, "ada")),
        handle.execute_update(RequirementWorkflow.retry, RetryRequest("Research", "bob")),
        return_exceptions=True,
    )
    report = await ended(handle)

    assert not isinstance(abort, BaseException)
    assert report.state == "FAILED"
    assert (await cluster.types())[-2:] == ["workflow.failed", "workflow.performance"]
    if isinstance(retry, BaseException):
        assert cluster.runs.started().count("Research") == 1


async def test_requirement_at_work_is_given_up_with_its_agents(cluster: Cluster) -> None:
    await cluster.open({ROY: [Script(lasts=True)]})
    may_end = agents_end_later(cluster)
    handle = await cluster.start(SOLO, heartbeat=BEAT)
    await cluster.until_running(ROY)
    abort = DecisionRequest(Answer.ABORT, "ada", "Not needed")

    async with asyncio.timeout(PATIENCE_SECONDS):
        for _ in range(2):  # the answer to the first one may be lost
            await handle.execute_update(RequirementWorkflow.decide, abort)
        may_end.set()
        report = await ended(handle)

    assert (report.state, report.reason) == ("FAILED", "Aborted by ada. Not needed")
    assert cluster.runs.order(ROY).run_id in cluster.runs.ended
    assert (await cluster.types())[-2:] == ["workflow.failed", "workflow.performance"]


async def test_abort_is_refused_once_the_end_has_begun(cluster: Cluster) -> None:
    closing, may_close = held_at(cluster, "close_requirement")
    await cluster.open()
    handle = await cluster.start(SOLO)
    await closing.wait()

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await handle.execute_update(
            RequirementWorkflow.decide, DecisionRequest(Answer.ABORT, "ada")
        )
    may_close.set()

    assert "the requirement is ending" in str(refused.value.cause)
    assert (await handle.result()).state == "DELIVERED"


async def test_cancelled_requirement_ends_its_fixes_first(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    crash = Script(exit_code=1, output="no notice")
    slow = Script(minutes=600_000)
    await cluster.open({"Research": [crash], "Fix run Research": [slow]})
    handle = await cluster.start(bounds=REPAIR, heartbeat=timedelta(seconds=1))
    await cluster.until_running("Fix run Research")

    await handle.cancel()
    await check_cancelled(handle)

    fix = f"{cluster.number}-FIX-1"
    states = {(await sdlc_reader.requirement(n)).state for n in (cluster.number, fix)}
    assert states == {RequirementState.CANCELLED}
    assert any(run_id.startswith(fix) for run_id in cluster.runs.ended)
    ended = [await last_change(sdlc_reader, number) for number in (fix, cluster.number)]
    assert ended == sorted(ended)


async def last_change(reader: SdlcReader, number: str) -> datetime:
    return (await reader.phases(number))[-1].at


# --- at every step of its way ---------------------------------------------------------------------
#
# Elsewhere: while it is held by a P0 (test_line.py), suspended (test_pre_emption.py), held by an
# outage (test_outages.py), in line to deliver (test_delivery_turns.py).


async def queue_for_a_slot(cluster: Cluster) -> Handle:
    cluster.runs.slots = 0
    handle = await cluster.start(SOLO, heartbeat=SHORT_BEAT)
    await until_asked(cluster)
    return handle


async def run_beside_each_other(cluster: Cluster) -> Handle:
    cluster.runs.by_number[cluster.number] = Script(lasts=True)
    handle = await cluster.start(PAIR, heartbeat=SHORT_BEAT)
    await cluster.until_running(ROY)
    await cluster.until_running(JEN)
    return handle


async def build(cluster: Cluster) -> Handle:
    cluster.builds.hold(cluster.number)
    handle = await cluster.start(SOLO, heartbeat=SHORT_BEAT)
    await until_building(cluster)
    return handle


async def build_what_a_fix_has_repaired(cluster: Cluster) -> Handle:
    handle = await cluster.start(SOLO, bounds=REPAIR, heartbeat=SHORT_BEAT)
    await cluster.until_running(f"Fix {BUILD}")
    cluster.builds.hold(cluster.number)
    await cluster.runs.let_end()
    await until_building(cluster, 2)
    return handle


async def ask_a_human(cluster: Cluster) -> Handle:
    cluster.runs.by_number[cluster.number] = Script({"status": "BLOCKED", "summary": "which one?"})
    handle = await cluster.start(SOLO, heartbeat=SHORT_BEAT)
    await cluster.until_blocked(handle)
    return handle


async def until_asked(cluster: Cluster) -> None:
    async def has_asked() -> bool:
        return cluster.runs.claims > 0

    await until(has_asked, "it asks for a slot")


async def until_building(cluster: Cluster, count: int = 1) -> None:
    async def is_building() -> bool:
        return len(cluster.builds.requests) >= count

    await until(is_building, f"build {count} runs")


@pytest.mark.parametrize(
    "reach",
    [queue_for_a_slot, run_beside_each_other, build, build_what_a_fix_has_repaired, ask_a_human],
)
async def test_requirement_is_cancelled_wherever_it_is(
    cluster: Cluster, sdlc_reader: SdlcReader, reach: Callable[[Cluster], Awaitable[Handle]]
) -> None:
    lasting = [Script(lasts=True)]
    await cluster.open({f"Fix {BUILD}": lasting}, {"backend": [2, 0]})
    handle = await reach(cluster)
    started = cluster.runs.started()

    async with asyncio.timeout(PATIENCE_SECONDS):
        await handle.cancel()
        await check_cancelled(handle)

    view = await sdlc_reader.requirement(cluster.number)
    states = {stage.state for stage in view.stages}
    assert view.state is RequirementState.CANCELLED
    assert not states & {StageState.RUNNING, StageState.HELD}
    assert (view.holds, view.queued, view.leftover, view.escalation) == ((), (), None, None)
    assert (await cluster.types())[-2:] == ["workflow.cancelled", "workflow.performance"]
    await cluster.runs.let_end()
    assert cluster.runs.started() == started
    assert cluster.runs.used == 0


@pytest.mark.parametrize("refusal", ["", "The verified work is the branch agog/REQ-1-greet."])
async def test_a_delivery_that_a_cancellation_meets_is_told_as_it_ended(
    cluster: Cluster,
    sdlc_reader: SdlcReader,
    workspaces: GitWorkspaces,
    monkeypatch: pytest.MonkeyPatch,
    refusal: str,
) -> None:
    is_reached, may_end = slow_delivery(workspaces, monkeypatch, refusal)
    await cluster.open(workspaces=workspaces)
    handle = await cluster.start(team_of("Research", "Backend"))
    await is_reached.wait()

    await handle.cancel()
    may_end.set()

    if not refusal:
        assert (await handle.result()).state is RequirementState.DELIVERED
    else:
        await check_cancelled(handle)
    view = await sdlc_reader.requirement(cluster.number)
    assert view.state is (RequirementState.CANCELLED if refusal else RequirementState.DELIVERED)
    assert refusal in view.reason


async def test_a_cancellation_does_not_wait_for_a_long_delivery_and_says_where_to_look(
    cluster: Cluster,
    sdlc_reader: SdlcReader,
    workspaces: GitWorkspaces,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A push may take ten minutes."""
    monkeypatch.setattr(options, "STOP_PATIENCE", timedelta(milliseconds=200))
    is_reached, may_end = slow_delivery(workspaces, monkeypatch)
    await cluster.open(workspaces=workspaces)
    handle = await cluster.start(team_of("Research", "Backend"))
    await is_reached.wait()

    await handle.cancel()
    await check_cancelled(handle)

    view = await sdlc_reader.requirement(cluster.number)
    assert view.state is RequirementState.CANCELLED
    assert "Its delivery had not ended: look whether it has reached main" in view.reason
    may_end.set()


def slow_delivery(
    workspaces: GitWorkspaces, monkeypatch: pytest.MonkeyPatch, refusal: str = ""
) -> tuple[asyncio.Event, asyncio.Event]:
    """Events: the target is about to be moved; and it may be, or is refused."""
    is_reached, may_end, swap = asyncio.Event(), asyncio.Event(), workspaces.swap_target

    async def slowly(number: str, target: str, commit: str) -> bool:
        is_reached.set()
        await may_end.wait()
        if refusal:
            raise ProjectRefused(refusal)
        return await swap(number, target, commit)

    monkeypatch.setattr(workspaces, "swap_target", slowly)
    return is_reached, may_end


@pytest.mark.parametrize("step", ["pass_delivery", "close_requirement"])
async def test_cancellation_of_what_is_delivered_in_this_moment_comes_too_late(
    cluster: Cluster, sdlc_reader: SdlcReader, step: str
) -> None:
    """A swap of the target, or a row that says so, is not taken back."""
    is_reached, may_proceed = held_at(cluster, step)
    await cluster.open()
    handle = await cluster.start(SOLO)
    await is_reached.wait()

    await handle.cancel()
    may_proceed.set()

    assert (await handle.result()).state is RequirementState.DELIVERED
    assert (await sdlc_reader.requirement(cluster.number)).state is RequirementState.DELIVERED
    assert "workflow.cancelled" not in await cluster.types()
