"""Implementers who change nothing: never green without a reason of their own."""

import pytest

from adapters.git import GitWorkspaces
from tests.fakes import Script
from tests.fixtures_workspaces import GitProject
from tests.house import REPAIR, House

ROY, JEN = "Backend Implementation", "Frontend Implementation"
SILENT = {"no_changes_needed": ""}
NOTHING = Script(SILENT)
WORK = Script(SILENT, files={"app.py": "print()\n"})
CALM = Script({"no_changes_needed": "The greeter knows French already."})


async def test_an_implementation_that_changes_nothing_is_red_and_not_paid_again(
    house: House, workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    before = git_project.state()
    await house.open({ROY: [NOTHING], JEN: [WORK]}, workspaces=workspaces)
    handle = await house.start()
    await house.until_blocked(handle)

    (failure,) = (await house.blocked())["failures"]
    assert (failure["stage"], failure["owners"]) == (ROY, ["roy"])
    assert "has changed no file" in failure["error"]
    assert house.runs.started().count(ROY) == 1
    assert house.builds.built() == []
    assert git_project.state() == before


@pytest.mark.parametrize("script", [CALM, WORK])
async def test_a_reason_or_a_change_makes_it_green(
    house: House, workspaces: GitWorkspaces, script: Script
) -> None:
    await house.open({ROY: [script], JEN: [WORK]}, workspaces=workspaces)

    await house.deliver()


async def test_agents_that_do_not_implement_may_change_nothing(
    house: House, workspaces: GitWorkspaces
) -> None:
    others = ("Research", "Critique", "Backend QA", "Statistics", "Documentation Update")
    scripts = {name: [NOTHING] for name in others}
    await house.open({**scripts, ROY: [WORK], JEN: [WORK]}, workspaces=workspaces)

    await house.deliver()


async def test_a_fix_that_changes_nothing_has_repaired_nothing(
    house: House, workspaces: GitWorkspaces
) -> None:
    fix = "Fix build backend"
    await house.open(
        {ROY: [WORK], JEN: [WORK], fix: [NOTHING]}, {"backend": [1]}, workspaces=workspaces
    )
    handle = await house.start(bounds=REPAIR)
    await house.until_blocked(handle)

    assert house.builds.built().count("backend") == 1, "nothing has changed: nothing to build"
    assert fix in house.runs.started()


async def test_a_fix_that_says_why_has_its_gate_made_again(
    house: House, workspaces: GitWorkspaces
) -> None:
    fix = "Fix build backend"
    flaky = Script({"no_changes_needed": "The build was out of memory; it is sound."})
    await house.open(
        {ROY: [WORK], JEN: [WORK], fix: [flaky]}, {"backend": [1, 0]}, workspaces=workspaces
    )
    handle = await house.start(bounds=REPAIR)
    report = await handle.result()

    assert report.state == "DELIVERED"
    assert house.runs.started().count(fix) == 1
    assert house.builds.built().count("backend") >= 2
