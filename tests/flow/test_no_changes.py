"""Implementers who change nothing: never green without a reason of their own."""

import pytest

from adapters.git import GitWorkspaces
from tests.cluster import REPAIR, Cluster
from tests.fakes import Script
from tests.fixtures_workspaces import GitProject

ROY, JEN = "Backend Implementation", "Frontend Implementation"
SILENT = {"no_changes_needed": ""}
NOTHING = Script(SILENT)
WORK = Script(SILENT, files={"app.py": "print()\n"})
CALM = Script({"no_changes_needed": "The greeter knows French already."})


async def test_an_implementation_that_changes_nothing_is_red_and_not_paid_again(
    cluster: Cluster, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    before = git_project.state()
    await cluster.open({ROY: [NOTHING], JEN: [WORK]}, workspaces=workspaces)
    handle = await cluster.start()
    await cluster.until_blocked(handle)

    (failure,) = (await cluster.blocked())["failures"]
    assert (failure["stage"], failure["owners"]) == (ROY, ["roy"])
    assert "has changed no file" in failure["error"]
    assert cluster.runs.started().count(ROY) == 1
    assert cluster.builds.built() == []
    assert git_project.state() == before


@pytest.mark.parametrize("script", [CALM, WORK])
async def test_a_reason_or_a_change_makes_it_green(
    cluster: Cluster, workspaces: GitWorkspaces, script: Script
) -> None:
    await cluster.open({ROY: [script], JEN: [WORK]}, workspaces=workspaces)

    await cluster.deliver()


async def test_agents_that_do_not_implement_may_change_nothing(
    cluster: Cluster, workspaces: GitWorkspaces
) -> None:
    others = ("Research", "Critique", "Backend QA", "Statistics", "Documentation Update")
    scripts = {name: [NOTHING] for name in others}
    await cluster.open({**scripts, ROY: [WORK], JEN: [WORK]}, workspaces=workspaces)

    await cluster.deliver()


async def test_a_fix_that_changes_nothing_has_repaired_nothing(
    cluster: Cluster, workspaces: GitWorkspaces
) -> None:
    fix = "Fix build backend"
    await cluster.open(
        {ROY: [WORK], JEN: [WORK], fix: [NOTHING]}, {"backend": [1]}, workspaces=workspaces
    )
    handle = await cluster.start(bounds=REPAIR)
    await cluster.until_blocked(handle)

    assert cluster.builds.built().count("backend") == 1, "nothing has changed: nothing to build"
    assert fix in cluster.runs.started()


async def test_a_fix_that_says_why_has_its_gate_made_again(
    cluster: Cluster, workspaces: GitWorkspaces
) -> None:
    fix = "Fix build backend"
    flaky = Script({"no_changes_needed": "The build was out of memory; it is sound."})
    await cluster.open(
        {ROY: [WORK], JEN: [WORK], fix: [flaky]}, {"backend": [1, 0]}, workspaces=workspaces
    )
    handle = await cluster.start(bounds=REPAIR)
    report = await handle.result()

    assert report.state == "DELIVERED"
    assert cluster.runs.started().count(fix) == 1
    assert cluster.builds.built().count("backend") >= 2
