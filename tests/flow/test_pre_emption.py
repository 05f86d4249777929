"""A P0 that pre-empts: what runs stands still, gives way, and goes on as the same run."""

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
from tests.fakes import Script
from tests.house import REPAIR, Handle, House, delivered, until
from tests.orchestra_plans import FOUR, SOLO
from workflows.requirement import RequirementWorkflow

RESEARCH, ROY, BILLY = "Research", "Backend Implementation", "Backend QA"
LONG = Script(lasts=True)
FAIL = Script({"test_result": "FAIL", "failures": ["wrong"]})


async def until_standing(house: House, *numbers: str) -> None:
    async def do_stand() -> bool:
        standing = {key.partition("/")[0] for key in house.runs.suspended}
        return standing == set(numbers)

    await until(do_stand, f"{numbers} stand still")


async def pre_empt(house: House, name: str = "P0", *, blocked: bool = False) -> Handle:
    """Start a P0, which fails if it is to be blocked."""
    number = f"{house.number}-{name}"
    script = Script(exit_code=1, output="no notice") if blocked else LONG
    house.runs.by_number[number] = script
    return await house.start(SOLO, number=number, priority=Priority.P0, pre_empts=True)


async def finished(house: House, *handles: Handle) -> None:
    """Let their agents end, and wait until they are delivered."""
    await house.runs.let_end(*(handle.id for handle in handles))
    await delivered(*handles)


async def test_what_runs_stands_still_and_goes_on_as_the_same_run(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open({ROY: [LONG]})
    handle = await house.start(FOUR)
    await house.until_running(ROY)
    urgent = await pre_empt(house)
    await until_standing(house, house.number)

    async def is_told() -> bool:
        return (await sdlc_reader.requirement(house.number)).state is RequirementState.HELD

    await until(is_told, "the row says HELD")
    view = await sdlc_reader.requirement(house.number)
    assert PRE_EMPTION in {hold.boundary for hold in view.holds}
    assert view.waiting_for == urgent.id
    await finished(house, urgent, handle)

    assert {run.attempt for run in await sdlc_reader.runs(house.number)} == {1}
    assert (await house.types()).count("workflow.resumed") == 1


async def test_agents_stand_still_as_long_as_one_p0_that_pre_empts_is_open(
    house: House, sdlc_reader: SdlcReader
) -> None:
    """Another P0 holds the boundaries meanwhile, and nothing that runs."""
    await house.open({ROY: [LONG]})
    handle = await house.start(FOUR)
    await house.until_running(ROY)
    first, second = (
        await pre_empt(house, "A", blocked=True),
        await pre_empt(house, "B", blocked=True),
    )
    plain = await house.start(SOLO, number=f"{house.number}-C", priority=Priority.P0)
    await house.until_blocked(first)
    await house.until_blocked(second)
    await until_standing(house, house.number)

    await abort(first)
    await finished(house, plain)
    await until_standing(house, house.number)
    await abort(second)
    await finished(house, handle)

    assert (await sdlc_reader.requirement(house.number)).holds == ()


async def test_p0_that_comes_while_agents_are_let_go_lets_them_stand_still(house: House) -> None:
    """What it says comes while the look is under way that has not seen it."""
    await house.open({ROY: [LONG]})
    handle = await house.start(SOLO)
    await house.until_running(ROY)
    first = await pre_empt(house, "A")
    await until_standing(house, house.number)
    looked, is_told, resumed = asyncio.Event(), asyncio.Event(), asyncio.Event()
    resume = house.runs.resume

    async def slowly(key: str) -> tuple[str, ...]:
        looked.set()
        await is_told.wait()
        standing = await resume(key)
        resumed.set()
        return standing

    house.runs.resume = slowly  # type: ignore[method-assign] # a slow host
    await finished(house, first)
    await looked.wait()
    second = await pre_empt(house, "B", blocked=True)
    await house.until_blocked(second)

    is_told.set()
    await resumed.wait()
    await until_standing(house, house.number)
    await abort(second)
    await finished(house, handle)


async def test_lost_signal_to_stand_still_is_made_up_for_by_a_look_at_the_house(
    house: House,
) -> None:
    """Its sender was killed behind his commit: the P0 is open, and nobody was told."""
    await house.open({ROY: [LONG]})
    handle = await house.start(SOLO)
    await house.until_running(ROY)
    number = f"{house.number}-P0"
    order = RequirementOrder(number, "It burns", Priority.P0, SOLO, False, None, pre_empts=True)
    await house.store.accept_all([Acceptance(order, "")])
    assert not house.runs.suspended

    await house.patrol()
    await until_standing(house, house.number)
    await finished(house, await house.start(SOLO, number=number, priority=Priority.P0), handle)


async def test_question_to_a_human_stays_to_be_seen_while_a_p0_pre_empts(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open({ROY: [Script(exit_code=1, output="no notice")]})
    handle = await house.start(SOLO)
    await house.until_blocked(handle)
    other = f"{house.number}-OTHER"
    house.runs.by_number[other] = LONG
    running = await house.start(SOLO, number=other)
    await house.until_running(ROY, runs=2)
    urgent = await pre_empt(house, blocked=True)
    await house.until_blocked(urgent)
    await until_standing(house, other)

    assert f"**{handle.id}** is **BLOCKED**" in await current_details(handle)
    await abort(urgent)
    await until_standing(house)
    assert f"starter.py decide {handle.id} abort" in await current_details(handle)
    assert (await sdlc_reader.requirement(handle.id)).past_holds == ()
    await abort(handle)
    await finished(house, running)


async def test_who_goes_on_is_shown_as_running(house: House) -> None:
    await house.open({ROY: [LONG]})
    handle = await house.start(SOLO)
    await house.until_running(ROY)
    urgent = await pre_empt(house, blocked=True)
    await house.until_blocked(urgent)
    await until_shown(house, handle, RequirementState.HELD)
    await abort(urgent)
    await until_shown(house, handle, RequirementState.RUNNING)

    assert house.runs.order(ROY).run_id not in house.runs.ended
    await finished(house, handle)


async def until_shown(house: House, handle: Handle, state: RequirementState) -> None:
    async def is_shown() -> bool:
        return f"**{handle.id}** is **{state}**" in await current_details(handle)

    await until(is_shown, f"{handle.id} is shown as {state}")


async def current_details(handle: Handle) -> str:
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata")
    return metadata.current_details


async def test_fix_that_runs_stands_still(house: House) -> None:
    fix = f"Fix verdict {BILLY}"
    await house.open({BILLY: [FAIL, Script()], fix: [LONG]})
    handle = await house.start(FOUR, bounds=REPAIR)
    await house.until_running(fix)
    urgent = await pre_empt(house)
    await until_standing(house, f"{house.number}-FIX-1")
    await house.runs.let_end()
    await delivered(urgent, handle)


async def test_what_the_p0_waits_for_goes_on(house: House) -> None:
    await house.open({ROY: [LONG]})
    handle = await house.start(SOLO)
    other = await house.start(SOLO, number=f"{house.number}-OTHER")
    await house.until_running(ROY, runs=2)
    number = f"{house.number}-P0"
    urgent = await house.start(
        SOLO, number=number, priority=Priority.P0, pre_empts=True, blocked_by=(handle.id,)
    )
    await until_standing(house, other.id)
    await finished(house, handle, urgent, other)


async def test_requirement_that_stands_still_can_be_cancelled(house: House) -> None:
    await house.open({ROY: [LONG]})
    handle = await house.start(SOLO, heartbeat=timedelta(seconds=2))
    await house.until_running(ROY)
    urgent = await pre_empt(house, blocked=True)
    await until_standing(house, handle.id)

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


async def test_runs_that_died_while_suspended_cost_no_try(house: House) -> None:
    died = Script(end=RunEnd.LOST, pre_empted=True)
    await house.open({RESEARCH: [died, died, died, Script()]})
    await house.deliver()

    assert house.runs.started().count(RESEARCH) == 4
    failed = [event for event in await house.events() if event["eventType"] == "stage.failed"]
    assert [event["action"] for event in failed] == ["RETRY"] * 3
    assert all("it was suspended for a P0" in event["error"] for event in failed)
