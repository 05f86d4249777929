"""What is recorded of a run that died while it was suspended, and of one that only was."""

from dataclasses import replace
from datetime import timedelta

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import FailureKind, RunEnd, RunResult, StageOutcome, StageState
from tests.sdlc_factory import BACKEND, FRONTEND, RESEARCH, START, Requirement, a_failure

DIED = RunResult(
    RunEnd.LOST,
    None,
    "",
    "",
    START,
    START + timedelta(minutes=45),
    1,
    "runs/log",
    "its supervisor was killed",
    pre_empted=True,
    suspensions=(START + timedelta(minutes=5), START + timedelta(minutes=35)),
)


async def test_a_run_that_died_while_suspended_is_recorded_as_lost_and_run_again(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    repeated = (FailureKind.PRE_EMPTED,)
    request = replace(requirement.request(RESEARCH), repeated_after=repeated)
    failure = a_failure(RESEARCH, kind=FailureKind.PRE_EMPTED, owners=())
    await sdlc_store.open_stage(request, request.ref.number)

    failed = StageOutcome(RESEARCH, 1, StageState.FAILED, None, True, failure=failure)
    await sdlc_store.close_stage(request, failed, DIED, None, None)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.state, run.end, run.starts) == (StageState.FAILED, RunEnd.LOST, 1)
    [told] = [
        event.payload
        for event in await sdlc_reader.events("REQ-1")
        if event.payload.get("eventType") == "stage.failed"
    ]
    assert told["action"] == "RETRY"


async def test_an_agent_costs_nothing_while_it_is_suspended(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)

    await sdlc_store.record_ends("REQ-1", {f"REQ-1/wf-1/{RESEARCH}/1": DIED})

    [run] = await sdlc_reader.runs("REQ-1")
    assert run.seconds == timedelta(minutes=15).total_seconds()


async def test_time_of_suspension_is_waiting_and_not_work_that_was_saved(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(BACKEND)
    await requirement.open_stage(FRONTEND)
    beside = replace(DIED, started_at=START + timedelta(minutes=5))

    await sdlc_store.record_ends(
        "REQ-1", {f"REQ-1/wf-1/{BACKEND}/1": DIED, f"REQ-1/wf-1/{FRONTEND}/1": beside}
    )

    measured = await sdlc_reader.performance("REQ-1")
    assert (measured.sequential_seconds, measured.parallel_seconds) == (25 * 60, 15 * 60)
    assert measured.hold_seconds == 30 * 60
