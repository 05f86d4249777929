"""Every workflow of a requirement follows it from a lost host, whatever it does meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from temporalio.testing import ActivityEnvironment

from activities.moving import MovingActivities
from adapters.git import GitWorkspaces
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from pipeline.errors import RequirementMoved
from pipeline.lost_hosts import Moving
from pipeline.model import (
    Opening,
    OpeningRequest,
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
from tests.fixtures_workspaces import GitProject, stage_request, write
from tests.orchestra_plans import team_of
from tests.repairs import BILLY, FIX_BACKEND
from tests.sdlc_factory import an_order
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


class Reads:
    """The store of the host that continues; it tells when two activities have found the same."""

    def __init__(self, store: PostgresSdlcStore) -> None:
        self._store = store
        self._count = 0
        self.both = asyncio.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def moving(self, number: str, lost: str) -> Moving | None:
        found = await self._store.moving(number, lost)
        self._count += 1
        if self._count >= 2:
            self.both.set()
        return found


class Slow(GitWorkspaces):
    """Its second take-over is late."""

    reads: Reads
    may_go: asyncio.Event
    has_begun = False

    async def take_over(self, what: Moving) -> None:
        if not self.has_begun:
            self.has_begun = True
            await self.reads.both.wait()
        else:
            await self.may_go.wait()
        await super().take_over(what)


async def test_what_is_merged_after_a_move_stays_though_another_activity_asks_to_move_as_well(
    other: Cluster, git_project: GitProject, tmp_path: Path
) -> None:
    shared, clone = tmp_path / "shared.git", tmp_path / "clone"
    git_project.git("init", "--quiet", "--bare", str(shared))
    git_project.git("clone", "--quiet", str(git_project.root), str(clone))
    lost, store, number = "lost", other.store, other.number
    head, _ = await GitWorkspaces(
        git_project.root, tmp_path / "one", shared_repository=str(shared), host=lost
    ).open(number)
    await store.accept(an_order(number), "It moves.")
    asked = OpeningRequest(RequirementRef(number, "wf-1"), PLAN, False)
    await store.open_requirement(asked, Opening(lost, head, "main", True))
    await store.beat(lost)
    await other.open()
    here = Slow(clone, tmp_path / "two", shared_repository=str(shared), host=other.host)
    here.reads, here.may_go = Reads(store), asyncio.Event()
    ports = replace(other.ports, store=cast(PostgresSdlcStore, here.reads), workspaces=here)
    moving = MovingActivities(ports, lost, (await store.beat(other.host)).beats[lost])

    async def ask() -> None:
        environment = ActivityEnvironment()
        environment.info = replace(environment.info, workflow_id=number)
        with pytest.raises(RequirementMoved):
            await environment.run(moving.move, [])

    asking = [asyncio.create_task(ask()) for _ in range(2)]
    await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
    request = stage_request(head, number=number)
    write(Path(await here.prepare(request)), {"new.txt": "new\n"})
    merged = (await here.integrate(request, "done")).head
    here.may_go.set()
    await asyncio.gather(*asking)

    assert await here.head(number) == merged
