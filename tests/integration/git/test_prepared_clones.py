"""`prepare` in an agent's clone, with real processes and a real clone."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePath

import pytest

from adapters.builds.project_builds import ProjectBuilds
from adapters.git import GitWorkspaces
from adapters.runs.resources import RunResources
from pipeline.agents_file import AgentsFile, BuildCommand, SimulatedBuild
from pipeline.errors import AgentsFileRefused
from pipeline.model import Preparation, RunEnd, StageRequest
from tests.eventually import eventually
from tests.fixtures_runs import PORTS, is_running
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write

PATH = "/usr/local/bin:/usr/bin:/bin"
DAEMON = "setsid sh -c 'echo $$ >{0}/daemon.pid; exec sleep 600' & echo $$ >{0}/main.pid; wait"
"""A `prepare` that lasts, and has started a service in a session of its own."""


@dataclass
class Site:
    """A state directory with a project, whose backend is prepared by a script."""

    home: Path
    project: Path

    def __post_init__(self) -> None:
        self.workspaces = GitWorkspaces(self.project, self.home)
        self.resources = RunResources(self.home, PORTS)

    async def request(self) -> StageRequest:
        head, _ = await self.workspaces.open(NUMBER)
        return stage_request(head)

    async def work(self, script: str, **changes: object) -> Preparation | None:
        """Prepare the clone for the backend, as a stage does."""
        build = BuildCommand(".", ("true",), prepare=("sh", "-c", script), **changes)  # type: ignore[arg-type] # theirs
        return await self.prepare({"backend": build})

    async def prepare(self, builds: dict[str, BuildCommand]) -> Preparation | None:
        request = await self.request()
        directory = await self.workspaces.prepare(request)
        file = AgentsFile("agents.toml", PurePath("/"), {}, builds, minute_seconds=0.0)
        environment = {"PATH": PATH, "NPM_TOKEN": "t", "OTHER": "o"}
        adapter = ProjectBuilds(lambda: file, self.home, environment, self.resources)
        return await adapter.prepare(request, tuple(builds), directory)

    @property
    def clone(self) -> Path:
        return self.home / "clones" / NUMBER / "stage-backend-implementation-1"


@pytest.fixture
def site(git_project: GitProject, state_home: Path) -> Site:
    git_project.commit({"backend/package.json": "{}"})
    return Site(state_home, git_project.root)


def pids(directory: Path) -> list[int]:
    files = [directory / name for name in ("main.pid", "daemon.pid")]
    return [int(file.read_text()) for file in files if exists(file) and file.read_text()]


async def until(condition: Callable[[], bool]) -> None:
    await eventually(condition, "it")


async def test_a_clone_is_prepared_once_and_what_was_made_is_not_the_agents_work(
    site: Site, store: GitProject, tmp_path: Path
) -> None:
    count = tmp_path / "count"
    script = f"echo x >>{count}; env | sort >environment; mkdir deps; echo x >deps/x; echo made"

    first = await site.work(script, environment=("NPM_TOKEN",))
    again = await site.work(script, environment=("NPM_TOKEN",))

    assert first
    assert first.is_green
    assert first.result.output == "made\n"
    assert [(step.name, step.argv) for step in first.result.steps] == [
        ("prepare", ("sh", "-c", script))
    ]
    assert again is None
    assert count.read_text() == "x\n"
    seen = dict(
        line.split("=", 1) for line in (site.clone / "environment").read_text().splitlines()
    )
    given = {name: value for name, value in seen.items() if name.isupper()}
    assert given.items() >= {"PATH": PATH, "NPM_TOKEN": "t", "CI": "true"}.items()
    assert "OTHER" not in given
    assert given.items() >= site.resources.take((await site.request()).run_id).items()
    site.resources.release((await site.request()).run_id)
    write(site.clone, {"work.py": "1"})
    merged = await site.workspaces.integrate(await site.request(), "done")
    assert merged.changed
    assert {"work.py"} == set(store.files(merged.commit)) - {
        ".gitignore",
        "backend/package.json",
        "readme.md",
        "shared.txt",
    }


async def test_sides_are_prepared_one_after_another_until_one_is_red(
    site: Site, tmp_path: Path
) -> None:
    log = tmp_path / "log"

    def build(script: str, directory: str = "backend") -> BuildCommand:
        return BuildCommand(directory, ("true",), prepare=("sh", "-c", f"{{ {script}; }} >>{log}"))

    builds = {
        "backend": build("echo backend"),
        "frontend": build("echo frontend", "not-there-yet"),
        "contract": build("echo error: no such package; false"),
        "docs": build("echo docs"),
    }
    red = await site.prepare(builds)
    repeated = await site.prepare(builds)

    assert red
    assert (red.build, red.is_green, red.result.exit_code) == ("contract", False, 1)
    assert red.has_manifest
    assert {"backend/package.json", "package-lock.json"} <= set(red.manifests)
    assert log.read_text().splitlines() == 2 * ["backend", "error: no such package"]
    assert repeated
    assert not repeated.is_green
    with pytest.raises(AgentsFileRefused, match=r"builds\.docs"):
        await site.prepare({"docs": SimulatedBuild()})  # type: ignore[dict-item] # edited meanwhile


async def test_a_prepare_that_takes_too_long_is_ended_with_all_that_it_has_started(
    site: Site, tmp_path: Path
) -> None:
    late = await site.work(DAEMON.format(tmp_path), timeout=timedelta(seconds=4))

    assert late
    assert (late.result.end, late.result.reason) == (
        RunEnd.TIMED_OUT,
        "It took longer than 0:00:04.",
    )
    assert len(pids(tmp_path)) == 2
    assert not any(map(is_running, pids(tmp_path)))


async def test_a_cancelled_prepare_leaves_no_process_and_its_clone_is_made_again(
    site: Site, tmp_path: Path
) -> None:
    preparing = asyncio.create_task(site.work(f"touch half; {DAEMON.format(tmp_path)}"))
    await until(lambda: len(pids(tmp_path)) == 2)
    assert exists(site.clone / "half")

    preparing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await preparing

    assert not any(map(is_running, pids(tmp_path)))
    again = await site.work("test ! -e half")
    assert again
    assert again.is_green
