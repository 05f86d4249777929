"""A host that is gone for good: another one continues its requirement, and it may come back."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from platform import node

import pytest
from temporalio.client import WorkflowUpdateFailedError

from adapters.processes import end_processes
from adapters.runs.kinds import leftovers
from cli.status import move_line
from pipeline.model import RequirementState, RunEnd, StageState
from pipeline.plan_rules import DELIVER
from tests.cluster import ended
from tests.e2e.outages import deliveries_held
from tests.eventually import eventually, eventually_async
from tests.fixtures_workspaces import GitProject
from tests.orchestra import Orchestra, explained
from tests.orchestra_plans import BACKEND, team_of
from tests.worker_process import WorkerProcess

RESEARCH = "Research"
PLAN = team_of(RESEARCH, "Backend")
LOST_AFTER = {"AGOG_HOST_LOST_AFTER": "0.05"}


@dataclass
class Hosts:
    """The orchestra's host, which gets lost, and another one with a clone of its project."""

    orchestra: Orchestra
    other: WorkerProcess
    project: GitProject
    """Of the other host."""
    name: str
    shared: Path
    """A repository that both can reach."""

    @property
    def settings(self) -> dict[str, str]:
        """What both are told where they share what they merge."""
        return {**LOST_AFTER, "AGOG_SHARED_REPOSITORY": str(self.shared)}

    def lose(self) -> None:
        """End everything on the orchestra's host at once, as a power cut does."""
        self.orchestra.worker.kill()
        for run in self.orchestra.runs():
            end_processes(lambda run=run: leftovers(run))  # type: ignore[misc] # bound per run

    async def moves(self) -> list[tuple[str, str, bool]]:
        """Each move as the database has it: from, to, and whether it is cleaned up."""
        rows = await self.orchestra.query(
            "SELECT lost, host, cleaned_at IS NOT NULL FROM moves WHERE number = %s",
            self.orchestra.number,
        )
        return [(str(lost), str(host), bool(is_clean)) for lost, host, is_clean in rows]


@pytest.fixture
def hosts(orchestra: Orchestra, tmp_path: Path) -> Iterator[Hosts]:
    directory, name = tmp_path / "other", f"{orchestra.name}-other"
    directory.mkdir()
    shared = tmp_path / "shared.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(shared)], check=True)
    source, clone = str(orchestra.project.root), str(directory / "project")
    subprocess.run(["git", "clone", "--quiet", source, clone], check=True)
    environment = {
        **orchestra.environment,
        "AGOG_HOME": str(directory / "home"),
        "AGOG_HOST": name,
        "PROJECT_ROOT": clone,
    }
    other = WorkerProcess(environment, directory)
    yield Hosts(orchestra, other, GitProject(Path(clone)), name, shared)
    other.close()


async def test_another_host_delivers_what_a_lost_one_began_also_if_that_comes_back(
    hosts: Hosts,
) -> None:
    orchestra, puppets = hosts.orchestra, hosts.orchestra.puppets
    puppets.task("cynthia", files={"plan.md": "as researched\n"})
    puppets.task("roy", files={"backend/greeting.txt": "hello\n"})
    puppets.hold("roy")
    await orchestra.worker.start(**hosts.settings)
    handle = await orchestra.start(PLAN)
    await eventually(lambda: puppets.starts("roy") == 1, "roy at work")
    await orchestra.until_shown(BACKEND, lambda shown: shown.starts == 1)
    before = orchestra.project.state()

    hosts.lose()
    await hosts.other.start(**hosts.settings)

    await eventually(lambda: puppets.starts("roy") == 2, "roy at work on the other host")
    # The lost one is back; on a busy machine it must not take the other one for lost in its turn.
    await orchestra.worker.start(**{**hosts.settings, "AGOG_HOST_LOST_AFTER": "5"})

    async def is_cleaned() -> bool:
        return await hosts.moves() == [(orchestra.name, hosts.name, True)]

    await eventually_async(is_cleaned, "what was left on the lost host is removed")
    puppets.release("roy")
    report = await ended(handle)

    assert report.state is RequirementState.DELIVERED, explained(await orchestra.view())
    assert hosts.project.text("main", "plan.md") == "as researched"
    assert hosts.project.text("main", "backend/greeting.txt") == "hello"
    assert orchestra.project.state() == before
    assert (puppets.starts("cynthia"), puppets.starts("roy")) == (1, 2)
    assert not orchestra.clones()
    runs = {(run.stage, run.attempt): run for run in await orchestra.reader.runs(orchestra.number)}
    lost, again = runs[BACKEND, 1], runs[BACKEND, 2]
    assert (lost.end, lost.state, lost.host) == (
        RunEnd.HOST_LOST,
        StageState.FAILED,
        orchestra.name,
    )
    assert "counts as no try" in lost.error
    assert (again.state, again.host) == (StageState.COMPLETED, hosts.name)
    view = await orchestra.view()
    assert view.host == hosts.name
    assert not view.failures
    (move,) = view.moves
    assert f"Host {orchestra.name} was lost: {hosts.name} continues at " in move_line(move)
    events = await orchestra.events()
    (moved,) = (event for event in events if event["eventType"] == "workflow.moved")
    assert (moved["from"], moved["host"]) == (orchestra.name, hosts.name)
    assert "workflow.blocked" not in [event["eventType"] for event in events]


async def test_a_human_is_asked_where_nothing_was_shared_and_the_host_continues_when_it_is_back(
    hosts: Hosts,
) -> None:
    orchestra, puppets = hosts.orchestra, hosts.orchestra.puppets
    puppets.task("roy", files={"backend/greeting.txt": "hello\n"})
    puppets.hold("roy")
    await orchestra.worker.start(**LOST_AFTER)
    handle = await orchestra.start(PLAN)
    await eventually(lambda: puppets.starts("roy") == 1, "roy at work")

    orchestra.worker.kill()  # its agent works on: the host is slow, and not gone
    await hosts.other.start(**LOST_AFTER)

    view = await orchestra.until_state(RequirementState.BLOCKED)
    (failure,) = view.failures
    assert "no shared repository is configured (AGOG_SHARED_REPOSITORY)" in failure.error
    assert f"Start the worker of {orchestra.name} again" in failure.error
    assert view.waiting_for == "human"
    await orchestra.worker.start(**LOST_AFTER)
    puppets.release("roy")

    async def is_delivered() -> bool:
        """A busy machine may silence it for so long once more, and then a human is asked again."""
        state = (await orchestra.view()).state
        if state is RequirementState.BLOCKED:
            with suppress(WorkflowUpdateFailedError):
                await orchestra.retry(handle, BACKEND)
        return state is RequirementState.DELIVERED

    await eventually_async(is_delivered, "it is delivered by its own host")
    assert puppets.starts("roy") == 1
    assert orchestra.project.text("main", "backend/greeting.txt") == "hello"
    assert await hosts.moves() == []


async def test_a_delivery_that_was_cut_off_is_made_elsewhere_only_once_a_human_has_looked(
    hosts: Hosts,
) -> None:
    orchestra, puppets = hosts.orchestra, hosts.orchestra.puppets
    puppets.task("roy", files={"backend/greeting.txt": "hello\n"})
    puppets.hold("roy")
    await orchestra.worker.start(**hosts.settings)
    handle = await orchestra.start(PLAN)
    await eventually(lambda: puppets.starts("roy") == 1, "roy at work")
    before = orchestra.project.state()

    async def is_delivering() -> bool:
        return bool(await orchestra.query("SELECT 1 FROM delivery_turns WHERE commit IS NOT NULL"))

    with deliveries_held(orchestra):
        puppets.release("roy")
        await eventually_async(is_delivering, "it may move the target now")
        hosts.lose()
    await hosts.other.start(**hosts.settings)

    (failure,) = (await orchestra.until_state(RequirementState.BLOCKED)).failures
    assert "it was delivering" in failure.error
    assert f"main of {node()}:{orchestra.project.root} when {orchestra.name} was" in failure.error
    assert await hosts.moves() == []
    await orchestra.retry(handle, DELIVER)
    report = await ended(handle)

    assert report.state is RequirementState.DELIVERED, explained(await orchestra.view())
    assert hosts.project.text("main", "backend/greeting.txt") == "hello"
    assert orchestra.project.state() == before
    assert puppets.starts("roy") == 1
