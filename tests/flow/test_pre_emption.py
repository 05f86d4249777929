"""A P0 that pre-empts: what runs is suspended, gives way, and continues as the same run."""

import asyncio
from datetime import timedelta

from temporalio.api.sdk.v1 import WorkflowMetadata

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from pipeline.model import (
    PRE_EMPTION,
    Answer,
    DecisionRequest,
    Priority,
    RequirementOrder,
    RequirementState,
    RunEnd,
)
from tests.cluster import REPAIR, Cluster, Handle, delivered, until
from tests.fakes import Script
from tests.orchestra_plans import FOUR, SOLO
from workflows.requirement import RequirementWorkflow

RESEARCH, ROY, BILLY = "Research", "Backend Implementation", "Backend QA"
LONG = Script(lasts=True)
FAIL = Script({"test_result": "FAIL", "failures": ["wrong"]})


async def until_suspended(cluster: Cluster, *numbers: str) -> None:
    async def do_stand() -> bool:
        standing = {key.partition("/")[0] for key in cluster.runs.suspended}
        return standing == set(numbers)

    await until(do_stand, f"{numbers} are suspended")


async def pre_empt(cluster: Cluster, name: str = "P0", *, blocked: bool = False) -> Handle:
    """Start a P0, which fails if it is to be blocked."""
    number = f"{cluster.number}-{name}"
    script = Script(exit_code=1, output="no notice") if blocked else LONG
    cluster.runs.by_number[number] = script
    return await cluster.start(SOLO, number=number, priority=Priority.P0, pre_empts=True)


async def finished(cluster: Cluster, *handles: Handle) -> None:
    """Let their agents end, and wait until they are delivered."""
    await cluster.runs.let_end(*(handle.id for handle in handles))
    await delivered(*handles)


async def test_what_runs_is_suspended_and_continues_as_the_same_run(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(FOUR)
    await cluster.until_running(ROY)
    urgent = await pre_empt(cluster)
    await until_suspended(cluster, cluster.number)

    async def is_told() -> bool:
        return (await sdlc_reader.requirement(cluster.number)).state is RequirementState.HELD

    await until(is_told, "the row says HELD")
    view = await sdlc_reader.requirement(cluster.number)
    assert PRE_EMPTION in {hold.boundary for hold in view.holds}
    assert view.waiting_for == urgent.id
    await finished(cluster, urgent, handle)

    assert {run.attempt for run in await sdlc_reader.runs(cluster.number)} == {1}
    assert (await cluster.types()).count("workflow.resumed") == 1


async def test_agents_are_suspended_as_long_as_one_p0_that_pre_empts_is_open(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    """Another P0 holds the boundaries meanwhile, and nothing that runs."""
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(FOUR)
    await cluster.until_running(ROY)
    first, second = (
        await pre_empt(cluster, "A", blocked=True),
        await pre_empt(cluster, "B", blocked=True),
    )
    plain = await cluster.start(SOLO, number=f"{cluster.number}-C", priority=Priority.P0)
    await cluster.until_blocked(first)
    await cluster.until_blocked(second)
    await until_suspended(cluster, cluster.number)

    await abort(first)
    await finished(cluster, plain)
    await until_suspended(cluster, cluster.number)
    await abort(second)
    await finished(cluster, handle)

    assert (await sdlc_reader.requirement(cluster.number)).holds == ()


async def test_p0_that_comes_while_agents_are_resumed_suspends_them(
    cluster: Cluster,
) -> None:
    """What it says comes while the look is under way that has not seen it."""
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    first = await pre_empt(cluster, "A")
    await until_suspended(cluster, cluster.number)
    looked, is_told, resumed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    resume = cluster.runs.resume

    async def slowly(key: str) -> tuple[str, ...]:
        looked.set()
        await is_told.wait()
        standing = await resume(key)
        resumed.set()
        return standing

    cluster.runs.resume = slowly  # type: ignore[method-assign] # a slow host
    await finished(cluster, first)
    await looked.wait()
    second = await pre_empt(cluster, "B", blocked=True)
    await cluster.until_blocked(second)

    is_told.set()
    await resumed.wait()
    await until_suspended(cluster, cluster.number)
    await abort(second)
    await finished(cluster, handle)


async def test_lost_signal_to_suspend_is_made_up_for_by_a_look_at_the_cluster(
    cluster: Cluster,
) -> None:
    """Its sender was killed behind his commit: the P0 is open, and nobody was told."""
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    number = f"{cluster.number}-P0"
    order = RequirementOrder(number, "It burns", Priority.P0, SOLO, False, None, pre_empts=True)
    await cluster.store.accept_all([Acceptance(order, "")])
    assert not cluster.runs.suspended

    await cluster.scheduled_check()
    await until_suspended(cluster, cluster.number)
    await finished(cluster, await cluster.start(SOLO, number=number, priority=Priority.P0), handle)


async def test_question_to_a_human_stays_to_be_seen_while_a_p0_pre_empts(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({ROY: [Script(exit_code=1, output="no notice")]})
    handle = await cluster.start(SOLO)
    await cluster.until_blocked(handle)
    other = f"{cluster.number}-OTHER"
    cluster.runs.by_number[other] = LONG
    running = await cluster.start(SOLO, number=other)
    await cluster.until_running(ROY, runs=2)
    urgent = await pre_empt(cluster, blocked=True)
    await cluster.until_blocked(urgent)
    await until_suspended(cluster, other)

    await until_shown(cluster, handle, RequirementState.BLOCKED)
    await abort(urgent)
    await until_suspended(cluster)
    assert f"starter.py decide {handle.id} abort" in await current_details(handle)
    assert (await sdlc_reader.requirement(handle.id)).past_holds == ()
    await abort(handle)
    await finished(cluster, running)


async def test_who_continues_is_shown_as_running(cluster: Cluster) -> None:
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    urgent = await pre_empt(cluster, blocked=True)
    await cluster.until_blocked(urgent)
    await until_shown(cluster, handle, RequirementState.HELD)
    await abort(urgent)
    await until_shown(cluster, handle, RequirementState.RUNNING)

    assert cluster.runs.order(ROY).run_id not in cluster.runs.ended
    await finished(cluster, handle)


async def until_shown(cluster: Cluster, handle: Handle, state: RequirementState) -> None:
    async def is_shown() -> bool:
        return f"**{handle.id}** is **{state}**" in await current_details(handle)

    await until(is_shown, f"{handle.id} is shown as {state}")


async def current_details(handle: Handle) -> str:
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata")
    return metadata.current_details


async def test_fix_that_runs_is_suspended(cluster: Cluster) -> None:
    fix = f"Fix verdict {BILLY}"
    await cluster.open({BILLY: [FAIL, Script()], fix: [LONG]})
    handle = await cluster.start(FOUR, bounds=REPAIR)
    await cluster.until_running(fix)
    urgent = await pre_empt(cluster)
    await until_suspended(cluster, f"{cluster.number}-FIX-1")
    await cluster.runs.let_end()
    await delivered(urgent, handle)


async def test_what_the_p0_waits_for_goes_on(cluster: Cluster) -> None:
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(SOLO)
    other = await cluster.start(SOLO, number=f"{cluster.number}-OTHER")
    await cluster.until_running(ROY, runs=2)
    number = f"{cluster.number}-P0"
    urgent = await cluster.start(
        SOLO, number=number, priority=Priority.P0, pre_empts=True, blocked_by=(handle.id,)
    )
    await until_suspended(cluster, other.id)
    await finished(cluster, handle, urgent, other)


async def test_requirement_that_is_suspended_can_be_cancelled(cluster: Cluster) -> None:
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(SOLO, heartbeat=timedelta(seconds=2))
    await cluster.until_running(ROY)
    urgent = await pre_empt(cluster, blocked=True)
    await until_suspended(cluster, handle.id)

    await handle.cancel()
    await until_cancelled(handle)
    await abort(urgent)


async def until_cancelled(handle: Handle) -> None:
    async def has_ended() -> bool:
        status = (await handle.describe()).status
        return status is not None and status.name == "CANCELED"

    await until(has_ended, f"{handle.id} is cancelled")


async def abort(handle: Handle) -> None:
    async def is_taken() -> bool:
        return (await handle.describe()).status is not None

    await until(is_taken, "it can be answered")
    decision = DecisionRequest(Answer.ABORT, "ada", "")
    await handle.execute_update(RequirementWorkflow.decide, decision)


async def test_runs_that_died_while_suspended_cost_no_try(cluster: Cluster) -> None:
    died = Script(end=RunEnd.LOST, pre_empted=True)
    await cluster.open({RESEARCH: [died, died, died, Script()]})
    await cluster.deliver()

    assert cluster.runs.started().count(RESEARCH) == 4
    failed = [event for event in await cluster.events() if event["eventType"] == "stage.failed"]
    assert [event["action"] for event in failed] == ["RETRY"] * 3
    assert all("it was suspended" in event["error"] for event in failed)
