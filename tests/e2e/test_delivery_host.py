"""What a host decides when it takes a requirement, and what its restart changes."""

import shutil
from collections.abc import Callable

import pytest

from pipeline.model import Mode, RequirementState
from tests.cluster import ended
from tests.eventually import eventually
from tests.fixtures_workspaces import GitProject, write
from tests.orchestra import Orchestra
from tests.orchestra_plans import FOUR, PAIR


async def test_the_switch_of_a_restarted_worker_serialises_what_runs(
    orchestra: Orchestra,
) -> None:
    puppets = orchestra.puppets
    puppets.hold("roy", "jen")
    puppets.task("billy", seconds=0.3)
    puppets.task("liz", seconds=0.3)
    await orchestra.worker.start()
    handle = await orchestra.start(FOUR)
    await eventually(lambda: len(puppets.living()) == 2, "roy beside jen")

    orchestra.worker.kill()
    await orchestra.worker.start(ENABLE_PARALLEL_EXECUTION="FALSE")
    assert "Parallelization: DISABLED" in orchestra.worker.log
    puppets.release("roy", "jen")

    assert (await handle.result()).state is RequirementState.DELIVERED
    assert puppets.overlapped("roy", "jen")
    assert not puppets.overlapped("billy", "liz")
    assert not puppets.overlapped("backend", "frontend")
    assert [sign.name for sign in puppets.signs("start")][-2:] == ["billy", "liz"]
    assert (await orchestra.view()).mode is Mode.SEQUENTIAL


def dirty(project: GitProject) -> str:
    write(project.root, {"README.md": "half written\n"})
    return "uncommitted changes (README.md)"


def gone(project: GitProject) -> str:
    shutil.rmtree(project.root)
    return "is not a directory"


def no_repository(project: GitProject) -> str:
    shutil.rmtree(project.root / ".git")
    return "cannot be used as a git repository"


@pytest.mark.parametrize("spoil", [dirty, gone, no_repository])
async def test_a_project_refused_by_the_host_ends_the_requirement(
    orchestra: Orchestra, spoil: Callable[[GitProject], str]
) -> None:
    handle = await orchestra.start(PAIR)
    reason = spoil(orchestra.project)
    await orchestra.worker.start()

    report = await ended(handle)

    assert report.state is RequirementState.FAILED
    assert reason in report.reason
    view = await orchestra.view()
    assert (view.state, reason in view.reason) == (RequirementState.FAILED, True)
    assert orchestra.puppets.signs("start") == []
    assert not orchestra.runs()
    assert not list((orchestra.home / "clones").glob("*"))
    if (orchestra.project.root / ".git").exists():
        assert orchestra.project.git("for-each-ref", "--format=%(refname)") == "refs/heads/main"
    types = [event["eventType"] for event in await orchestra.events()]
    assert types.count("workflow.failed") == 1
