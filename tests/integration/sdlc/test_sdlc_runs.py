"""What is recorded of runs while they continue, and of those that no stage closes."""

import asyncio
from datetime import timedelta

import psycopg

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.model import RequirementState, RunEnd, RunResult, StageState
from tests.eventually import eventually_async
from tests.sdlc_factory import RESEARCH, START, Requirement, a_failure

RUN = f"REQ-1/wf-1/{RESEARCH}/1"
LATER = START + timedelta(minutes=1)
ENDED = START + timedelta(minutes=45)
CANCELLED = RunResult(RunEnd.CANCELLED, None, "", "", START, ENDED, 1, "runs/log")


async def test_a_start_is_shown_while_the_agent_runs(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    assert (await sdlc_reader.requirement("REQ-1")).stages[0].starts == 0

    await sdlc_store.start_run(requirement.request(RESEARCH), START, "c0ffee")
    await sdlc_store.start_run(requirement.request(RESEARCH), LATER, "c0ffee")

    stage = (await sdlc_reader.requirement("REQ-1")).stages[0]
    assert (stage.state, stage.starts) == (StageState.RUNNING, 1)
    [run] = await sdlc_reader.runs("REQ-1")
    assert run.started_at == START


async def test_starts_are_counted_over_all_attempts(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    await sdlc_store.start_run(requirement.request(RESEARCH), START, "c0ffee")
    await requirement.run(RESEARCH, attempt=2)

    await sdlc_store.start_run(requirement.request(RESEARCH), LATER, "c0ffee")

    assert (await sdlc_reader.requirement("REQ-1")).stages[0].starts == 2


async def test_a_run_that_no_stage_closes_has_its_end_and_cost(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)

    for _ in range(2):
        await sdlc_store.record_ends("REQ-1", {RUN: CANCELLED, "REQ-1/wf-1/Unknown/1": CANCELLED})
    await requirement.close(RequirementState.CANCELLED)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.state, run.end, run.starts) == (StageState.FAILED, RunEnd.CANCELLED, 1)
    assert (run.started_at, run.ended_at, run.seconds) == (START, ENDED, 2700.0)
    assert (await sdlc_reader.performance("REQ-1")).sequential_seconds == 2700.0


async def test_stage_closes_whose_agent_was_ended_by_the_clean_up_before_it(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    await sdlc_store.record_ends("REQ-1", {RUN: CANCELLED})

    failed, end = StageState.FAILED, RunEnd.CANCELLED
    failure = a_failure(RESEARCH)
    await requirement.close_stage(RESEARCH, state=failed, failure=failure, end=end, minutes=45)

    [run] = await sdlc_reader.runs("REQ-1")
    assert (run.state, run.end, run.seconds) == (failed, end, 2700.0)


async def test_a_closed_run_stays_as_it_is(
    sdlc_store: PostgresSdlcStore, sdlc_reader: SdlcReader
) -> None:
    requirement = await Requirement(sdlc_store).begun()
    await requirement.run(RESEARCH, minutes=10)
    before = await sdlc_reader.runs("REQ-1")

    await sdlc_store.start_run(requirement.request(RESEARCH), LATER, "c0ffee")
    await sdlc_store.record_ends("REQ-1", {RUN: CANCELLED})

    assert await sdlc_reader.runs("REQ-1") == before


async def test_end_of_a_run_waits_for_its_requirement_with_no_other_row_in_hand(
    sdlc_store: PostgresSdlcStore, database_url: str
) -> None:
    """A stage that closes has the requirement and then wants the run: one of them would be ended.

    This happens when a stage is told late that it is cancelled, and its agent was ended meanwhile.
    """
    requirement = await Requirement(sdlc_store).begun()
    await requirement.open_stage(RESEARCH)
    address = database_url.replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(address) as closing:
        await closing.execute("SELECT 1 FROM requirements WHERE number = 'REQ-1' FOR UPDATE")
        ending = asyncio.create_task(sdlc_store.record_ends("REQ-1", {RUN: CANCELLED}))

        async def waits() -> bool:
            waiting = "SELECT 1 FROM pg_locks WHERE NOT granted"
            return await (await closing.execute(waiting)).fetchone() is not None

        await eventually_async(waits, "the end waits for the requirement")
        await closing.execute("SELECT 1 FROM runs WHERE run_id = %s FOR UPDATE NOWAIT", [RUN])
        assert not ending.done()
    await ending
