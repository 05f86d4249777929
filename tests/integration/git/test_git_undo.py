"""Taking back what was delivered: one commit, which keeps what came later."""

from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from pipeline.errors import ProjectRefused
from pipeline.model import Undo
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request, write

BACK = "REQ-1-undo"


@pytest.fixture
async def undo(workspaces: GitWorkspaces, git_project: GitProject) -> Undo:
    """A delivered requirement, whose work came in two commits and a merge."""
    before, _ = await workspaces.open(NUMBER)
    for attempt, files in ((1, {"shared.txt": "two\n"}), (2, {"new.txt": "new\n"})):
        request = stage_request(before, attempt=attempt)
        write(Path(await workspaces.prepare(request)), files)
        head = (await workspaces.integrate(request, "done")).head
    assert await workspaces.swap_target(NUMBER, "main", head.commit)
    await workspaces.release(NUMBER)
    return Undo(NUMBER, "Greet", before.commit, head.commit)


async def test_one_commit_takes_it_back_and_keeps_what_came_later(
    workspaces: GitWorkspaces, git_project: GitProject, undo: Undo
) -> None:
    later = git_project.commit({"user.txt": "user\n"}, "Later")

    head, target = await workspaces.open(BACK, target="main", undo=undo)
    assert await workspaces.swap_target(BACK, target, head.commit)

    assert (head.position, target) == (1, "main")
    assert git_project.git("log", "-1", "--format=%P", "main") == later
    assert git_project.git("diff", "--name-only", undo.before, "main") == "user.txt"
    said = git_project.git("log", "-1", "--format=%B", "main").splitlines()
    assert said[0] == f"{BACK}: Revert {NUMBER}: Greet"
    assert f"{undo.before}..{undo.commit}" in said[2]
    assert git_project.git("status", "--porcelain") == ""


async def test_what_a_forge_has_squashed_is_taken_back_as_well(
    workspaces: GitWorkspaces, git_project: GitProject, undo: Undo
) -> None:
    git_project.git("reset", "--quiet", "--hard", undo.before)
    git_project.commit({"theirs.txt": "meanwhile\n"})
    git_project.git("merge", "--quiet", "--squash", undo.commit)
    git_project.git("commit", "--quiet", "--message=Greet (#7)")
    later = git_project.commit({"user.txt": "user\n"}, "Later")

    head, target = await workspaces.open(BACK, target="main", undo=undo)
    assert await workspaces.swap_target(BACK, target, head.commit)

    assert git_project.git("log", "-1", "--format=%P", "main") == later
    changed = git_project.git("diff", "--name-only", undo.before, "main").split()
    assert changed == ["theirs.txt", "user.txt"]
    with pytest.raises(ProjectRefused, match="it is undone"):
        await workspaces.preview_undo(f"{BACK}-2", "main", undo)


async def test_right_after_the_delivery_it_is_one_commit_as_well(
    workspaces: GitWorkspaces, git_project: GitProject, undo: Undo
) -> None:
    head, _ = await workspaces.open(BACK, undo=undo)

    _, tip, again = await workspaces.preview_undo(BACK, "main", undo)

    assert tip == undo.commit
    assert await workspaces.swap_target(BACK, "main", head.commit)
    assert git_project.git("log", "-1", "--format=%P", "main") == tip
    assert git_project.git("diff", undo.before, "main") == ""
    assert git_project.git("rev-parse", "main^{tree}") == git_project.git(
        "rev-parse", f"{undo.before}^{{tree}}"
    )
    assert again


async def test_what_cannot_be_taken_back_is_refused_and_changes_nothing(
    workspaces: GitWorkspaces, git_project: GitProject, undo: Undo
) -> None:
    git_project.commit({"shared.txt": "three\n"}, "The same line")
    before = git_project.git("for-each-ref")

    with pytest.raises(ProjectRefused, match=r"later commits of main .* lines of shared\.txt\."):
        await workspaces.preview_undo(BACK, "main", undo)
    with pytest.raises(ProjectRefused, match="later commits"):
        await workspaces.open(BACK, undo=undo)
    assert git_project.git("for-each-ref") == before

    git_project.git("reset", "--quiet", "--hard", undo.before)
    with pytest.raises(ProjectRefused, match="main does not hold what REQ-1 delivered"):
        await workspaces.preview_undo(BACK, "main", undo)
    git_project.git("reset", "--quiet", "--hard", undo.commit)
    git_project.commit({"shared.txt": "one\n"}, "By hand")
    git_project.git("rm", "--quiet", "new.txt")
    git_project.git("commit", "--quiet", "--message=By hand, too")
    with pytest.raises(ProjectRefused, match="it is undone"):
        await workspaces.preview_undo(BACK, "main", undo)
