"""A branch of its own for finished work, against a real bare remote."""

from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from pipeline.errors import ProjectRefused
from pipeline.model import BranchOrder, Head
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write

BRANCH = "agog/REQ-1-greet"


@pytest.fixture
def remote(git_project: GitProject, tmp_path: Path) -> GitProject:
    place = tmp_path / "remote.git"
    git_project.git("init", "--quiet", "--bare", str(place))
    git_project.git("remote", "add", "origin", str(place))
    git_project.git("push", "--quiet", "origin", "main")
    return GitProject(place)


async def integrated(workspaces: GitWorkspaces, text: str, attempt: int = 1) -> Head:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head, attempt=attempt)
    write(Path(await workspaces.prepare(request)), {"new.txt": text})
    return (await workspaces.integrate(request, "done")).head


def order(head: Head, *, remote: str = "", needs_remote: bool = False) -> BranchOrder:
    return BranchOrder(NUMBER, BRANCH, head.commit, "main", remote, needs_remote)


def hook(repository: Path, name: str, script: str) -> None:
    path = repository / "hooks" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def refs(project: GitProject) -> dict[str, str]:
    lines = project.git("for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split(" ") for line in lines)


async def test_the_branch_alone_is_pushed_with_the_users_hook_and_found_by_a_repeat(
    workspaces: GitWorkspaces, git_project: GitProject, remote: GitProject
) -> None:
    git_project.git("tag", "--annotate", "--message=1", "v1")
    git_project.git("config", "push.followTags", "true")
    git_project.git("config", "push.default", "matching")
    git_project.git("branch", "private")
    hook(git_project.root / ".git", "pre-push", 'cat >> "$(git rev-parse --git-dir)/pushed"')
    before, there = git_project.state(), refs(remote)
    head = await integrated(workspaces, "one\n")

    first = await workspaces.publish(order(head))
    second = await workspaces.publish(order(head))

    assert (first, second) == ("origin", "origin")
    assert refs(remote) == {**there, f"refs/heads/{BRANCH}": head.commit}
    assert git_project.git("rev-parse", BRANCH) == head.commit
    assert git_project.state() == before
    pushed = (git_project.root / ".git/pushed").read_text().splitlines()
    assert {line.split(" ")[2] for line in pushed} == {f"refs/heads/{BRANCH}"}


async def test_without_a_remote_the_branch_stays_here_and_is_named(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    head = await integrated(workspaces, "one\n")

    assert await workspaces.publish(order(head)) == ""
    with pytest.raises(ProjectRefused, match=f"{BRANCH} .*{head.commit[:10]}.*there is no remote"):
        await workspaces.publish(order(head, needs_remote=True))
    with pytest.raises(ProjectRefused, match="no remote nowhere to push it to; there are: none"):
        await workspaces.publish(order(head, remote="nowhere"))

    assert git_project.git("rev-parse", BRANCH) == head.commit


async def test_a_refused_push_keeps_the_branch_and_tells_the_words(
    workspaces: GitWorkspaces, git_project: GitProject, remote: GitProject
) -> None:
    hook(remote.root, "pre-receive", "echo 'Not on a Sunday.'; exit 1")
    head = await integrated(workspaces, "one\n")

    with pytest.raises(ProjectRefused, match=r"(?s)not pushed to origin.*Not on a Sunday") as told:
        await workspaces.publish(order(head))

    assert BRANCH in str(told.value)
    assert git_project.git("rev-parse", BRANCH) == head.commit
    (remote.root / "hooks/pre-receive").unlink()
    assert await workspaces.publish(order(head)) == "origin"


async def test_a_remote_that_is_not_there_is_told_in_gits_words(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    git_project.git("remote", "add", "origin", str(git_project.root.parent / "gone.git"))
    head = await integrated(workspaces, "one\n")

    with pytest.raises(ProjectRefused, match=r"gone\.git.*does not appear to be a git repository"):
        await workspaces.publish(order(head))

    assert git_project.git("rev-parse", BRANCH) == head.commit


async def test_what_somebody_else_has_pushed_is_never_overwritten(
    workspaces: GitWorkspaces, git_project: GitProject, remote: GitProject
) -> None:
    theirs = git_project.git("commit-tree", "HEAD^{tree}", "-m", "theirs")
    git_project.git("config", "remote.origin.push", "+refs/heads/*:refs/heads/*")
    git_project.git("push", "--quiet", "origin", f"{theirs}:refs/heads/{BRANCH}")
    head = await integrated(workspaces, "one\n")

    with pytest.raises(ProjectRefused, match="rejected"):
        await workspaces.publish(order(head))

    assert remote.git("rev-parse", BRANCH) == theirs


async def test_a_branch_of_the_users_of_that_name_is_left_alone(
    workspaces: GitWorkspaces, git_project: GitProject, remote: GitProject
) -> None:
    git_project.git("branch", BRANCH)
    main = git_project.git("rev-parse", "main")
    head = await integrated(workspaces, "one\n")

    with pytest.raises(ProjectRefused, match=f"git branch -m {BRANCH} NEW-NAME"):
        await workspaces.publish(order(head))

    assert git_project.git("rev-parse", BRANCH) == main
    assert f"refs/heads/{BRANCH}" not in refs(remote)


async def test_work_that_is_verified_later_moves_the_branch_unless_somebody_is_on_it(
    workspaces: GitWorkspaces, git_project: GitProject, remote: GitProject
) -> None:
    first = await integrated(workspaces, "one\n")
    await workspaces.publish(order(first))
    second = await integrated(workspaces, "two\n", attempt=2)
    git_project.git("switch", "--quiet", BRANCH)

    with pytest.raises(ProjectRefused, match="works on"):
        await workspaces.publish(order(second))
    git_project.git("switch", "--quiet", "main")
    await workspaces.publish(order(second))

    assert second.commit != first.commit
    assert git_project.git("rev-parse", BRANCH) == second.commit
    assert remote.git("rev-parse", BRANCH) == second.commit
    assert not exists(git_project.root / "new.txt")


async def test_the_remote_is_the_one_that_is_named_or_else_that_of_the_target(
    workspaces: GitWorkspaces, git_project: GitProject, remote: GitProject, tmp_path: Path
) -> None:
    fork = tmp_path / "fork.git"
    git_project.git("init", "--quiet", "--bare", str(fork))
    git_project.git("remote", "rename", "origin", "upstream")
    git_project.git("remote", "add", "fork", str(fork))
    head = await integrated(workspaces, "one\n")

    with pytest.raises(ProjectRefused, match=r"fork, upstream are remotes.*Name one as remote"):
        await workspaces.publish(order(head))
    named = await workspaces.publish(order(head, remote="fork"))
    git_project.git("config", "branch.main.remote", "upstream")
    usual = await workspaces.publish(order(head))

    assert (named, usual) == ("fork", "upstream")
    assert GitProject(fork).git("rev-parse", BRANCH) == head.commit
    assert remote.git("rev-parse", BRANCH) == head.commit
