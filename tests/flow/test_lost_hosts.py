"""Every workflow of a requirement follows it from a lost host, whatever it does meanwhile."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import pytest

from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    Priority,
    RequirementRef,
    RunEnd,
    RunResult,
    StageOutcome,
    StageRequest,
    StageState,
)
from pipeline.notice import parse_notice
from tests.cluster import REPAIR, Cluster, Handle, delivered, until
from tests.fakes import Script
from tests.orchestra_plans import team_of
from tests.repairs import BILLY, FIX_BACKEND
from worker import workers_of_lost

RESEARCH, ROY = "Research", "Backend Implementation"
PLAN = team_of(RESEARCH, "Backend")
LONG = Script(lasts=True)
SAID = """```json
{"agent": "cynthia", "req_number": "%s", "status": "COMPLETE", "summary": "Read."}
```"""


@asynccontextmanager
async def lost(cluster: Cluster, other: Cluster) -> AsyncIterator[None]:
    """The first host is gone, and the other one serves its queues."""
    await cluster.close()
    beat = (await other.store.beat(other.host)).beats[cluster.host]
    client, installation = other.identity.client, other.installation
    async with AsyncExitStack() as stack:
        for worker in workers_of_lost(client, installation, other.ports, cluster.host, beat):
            await stack.enter_async_context(worker)
        yield


async def at_work(cluster: Cluster, handle: Handle, stage: str, reader: SdlcReader) -> None:
    """Wait until the database knows that the stage's agent was started, and beat once more."""

    async def is_known() -> bool:
        return any(run.stage == stage and run.starts for run in await reader.runs(handle.id))

    await until(is_known, f"the start of {stage} is recorded")
    await cluster.store.beat(cluster.host)


async def record(cluster: Cluster, handle: Handle, reader: SdlcReader) -> None:
    """Close the run of research as its host does just before it is lost."""
    view = await reader.requirement(handle.id)
    ref = RequirementRef(handle.id, str(view.workflow_run))
    stage = PLAN.stage(RESEARCH)
    request = StageRequest(ref, Priority.P2, stage, 1, None, 1)
    said, now = SAID % handle.id, datetime.now(UTC)
    notice = parse_notice(said, agent=stage.member, number=handle.id)
    result = RunResult(RunEnd.EXITED, 0, said, "", now, now, 1, "log")
    outcome = StageOutcome(RESEARCH, 1, StageState.COMPLETED, None, True, "Read.")
    await cluster.store.close_stage(request, outcome, result, notice, None)


@pytest.mark.parametrize("is_recorded", [False, True])
async def test_a_run_is_repeated_unless_its_answer_was_recorded(
    cluster: Cluster, other: Cluster, sdlc_reader: SdlcReader, is_recorded: bool
) -> None:
    await cluster.open({RESEARCH: [LONG]})
    handle = await cluster.start(PLAN)
    await cluster.until_running(RESEARCH)
    await at_work(cluster, handle, RESEARCH, sdlc_reader)
    await other.open()

    async with lost(cluster, other):
        if is_recorded:
            await record(cluster, handle, sdlc_reader)
        await delivered(handle)

    runs = [(run.stage, run.attempt, run.end) for run in await sdlc_reader.runs(handle.id)]
    repeated = [(RESEARCH, 1, RunEnd.HOST_LOST), (RESEARCH, 2, RunEnd.EXITED)]
    kept = [(RESEARCH, 1, RunEnd.EXITED)]
    assert runs == [*(kept if is_recorded else repeated), (ROY, 1, RunEnd.EXITED)]
    assert other.runs.started() == ([ROY] if is_recorded else [RESEARCH, ROY])
    assert "workflow.blocked" not in await cluster.types()


async def test_fixes_and_the_round_that_runs_them_follow_their_requirement(
    cluster: Cluster, other: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({FIX_BACKEND: [LONG]}, {"backend": [2, 0]})
    handle = await cluster.start(bounds=REPAIR)
    await cluster.until_running(FIX_BACKEND)
    fix = cluster.handle(f"{handle.id}-FIX-1")
    await at_work(cluster, fix, FIX_BACKEND, sdlc_reader)
    await other.open()

    async with lost(cluster, other):
        await delivered(handle)

    runs = await sdlc_reader.runs(fix.id)
    assert [(run.attempt, run.end) for run in runs] == [(1, RunEnd.HOST_LOST), (2, RunEnd.EXITED)]
    for number in (handle.id, fix.id):
        assert (await sdlc_reader.requirement(number)).host == other.host
    assert other.runs.started().count(BILLY) == 1
    assert ROY not in other.runs.started()
    assert (await cluster.types()).count("workflow.moved") == 1
