"""What agents leave in their worktrees."""

import shutil
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from adapters.workspaces import GitWorkspaces
from pipeline.model import StageRequest
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write


@pytest.fixture
async def request_at_work(workspaces: GitWorkspaces) -> StageRequest:
    head, _ = await workspaces.open(NUMBER)
    return stage_request(head)


@pytest.fixture
async def worktree(workspaces: GitWorkspaces, request_at_work: StageRequest) -> Path:
    return Path(await workspaces.prepare(request_at_work))


async def test_agents_own_commits_are_its_result(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
) -> None:
    write(worktree, {"one": "1"})
    git_project.git("add", "one", at=worktree)
    git_project.git("commit", "--quiet", "--message", "mine", at=worktree)
    write(worktree, {"two": "2"})

    result = await workspaces.integrate(request_at_work, "done")

    assert result.head.position == 2
    assert {"one", "two"} <= set(git_project.files(result.head.commit))


@pytest.mark.parametrize("move", [("--detach",), ("--create", "wild"), ("--orphan", "wild")])
async def test_head_is_taken_wherever_the_agent_left_it(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
    move: tuple[str, ...],
) -> None:
    git_project.git("switch", "--quiet", *move, at=worktree)
    write(worktree, {"one": "1"})
    git_project.git("add", "one", at=worktree)
    git_project.git("commit", "--quiet", "--message", "mine", at=worktree)
    write(worktree, {"two": "2"})

    result = await workspaces.integrate(request_at_work, "done")

    assert {"one", "two"} <= set(git_project.files(result.head.commit))
    branch = f"agog/{NUMBER}/backend-implementation-1"
    assert git_project.git("rev-parse", branch) == result.commit


async def test_ignored_files_are_not_committed(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
) -> None:
    write(worktree, {"node_modules/left-pad/index.js": "x", "app.js": "y"})

    result = await workspaces.integrate(request_at_work, "done")

    assert "app.js" in git_project.files(result.commit)
    assert not [name for name in git_project.files(result.commit) if "node_modules" in name]


async def test_deleted_renamed_and_oddly_named_files_are_committed(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
) -> None:
    (worktree / "shared.txt").unlink()
    (worktree / "readme.md").rename(worktree / "läs mig\n.md")
    (worktree / "link").symlink_to("/nowhere")

    result = await workspaces.integrate(request_at_work, "done")

    names = git_project.git("ls-tree", "-r", "-z", "--name-only", result.commit).split("\0")
    assert sorted(filter(None, names)) == [".gitignore", "link", "läs mig\n.md"]


@pytest.mark.parametrize("has_commit", [True, False])
async def test_repository_inside_the_worktree_is_committed_as_files(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
    has_commit: bool,
) -> None:
    inner = worktree / "web app"
    git_project.git("init", "--quiet", str(inner))
    write(inner, {"src/index.js": "x", "build/out": "x", ".gitignore": "build/\n"})
    git_project.git("init", "--quiet", str(inner / "deeper"))
    write(inner / "deeper", {"file": "x"})
    if has_commit:
        git_project.git("add", "src", at=inner)
        git_project.git("commit", "--quiet", "--message", "inner", at=inner)
        git_project.git("add", "--all", at=worktree)
        git_project.git("commit", "--quiet", "--message", "as a gitlink", at=worktree)

    result = await workspaces.integrate(request_at_work, "done")

    inside = [name for name in git_project.files(result.commit) if name.startswith("web app/")]
    assert inside == ["web app/.gitignore", "web app/deeper/file", "web app/src/index.js"]


async def test_worktree_inside_the_worktree_is_left_out(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
) -> None:
    git_project.git("worktree", "add", "--quiet", "-b", "side", "trees/side", at=worktree)
    write(worktree, {"app.js": "y"})

    result = await workspaces.integrate(request_at_work, "done")

    assert git_project.files(result.commit) == [".gitignore", "app.js", "readme.md", "shared.txt"]


async def test_submodule_stays_a_submodule(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    library = GitProject(git_project.root.parent / "library")
    library.root.mkdir()
    library.git("init", "--quiet")
    pinned = library.commit({"lib.c": "int x;"})
    git_project.git(
        "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(library.root), "lib"
    )
    git_project.git("commit", "--quiet", "--message", "add a submodule")
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    write(Path(await workspaces.prepare(request)), {"app.c": "int y;"})

    result = await workspaces.integrate(request, "done")

    assert git_project.git("rev-parse", f"{result.commit}:lib") == pinned
    assert "app.c" in git_project.files(result.commit)


async def test_deleted_git_file_and_foreign_repository_lose_no_work(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
) -> None:
    (worktree / ".git").unlink()
    git_project.git("init", "--quiet", at=worktree)
    write(worktree, {"app.js": "y"})

    result = await workspaces.integrate(request_at_work, "done")

    assert "app.js" in git_project.files(result.head.commit)
    assert not exists(worktree)


async def test_unfinished_merge_is_a_conflict_and_a_finished_one_is_not(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
) -> None:
    _leave_in_conflict(git_project, worktree)

    unfinished = await workspaces.integrate(request_at_work, "done")
    write(worktree, {"shared.txt": "resolved\n"})
    finished = await workspaces.integrate(request_at_work, "done")

    assert unfinished.conflicts == ("shared.txt",)
    assert finished.conflicts == ()
    assert git_project.text(finished.head.commit, "shared.txt") == "resolved"


async def test_what_an_attempt_left_is_kept_with_merge_and_lock_half_done(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
) -> None:
    _leave_in_conflict(git_project, worktree)
    write(worktree, {"draft.txt": "unfinished\n"})
    git_dir = Path(git_project.git("rev-parse", "--absolute-git-dir", at=worktree))
    (git_dir / "index.lock").touch()

    ref = await workspaces.keep(request_at_work)

    assert ref == f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert git_project.text(ref, "draft.txt") == "unfinished"
    assert not exists(worktree)
    assert not exists(git_dir)


async def test_keeping_again_changes_nothing(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
) -> None:
    write(worktree, {"draft.txt": "unfinished\n"})
    ref = await workspaces.keep(request_at_work)
    kept = git_project.git("rev-parse", ref)

    await workspaces.prepare(request_at_work)

    assert await workspaces.keep(request_at_work) == ref
    assert git_project.git("rev-parse", ref) == kept
    assert not exists(worktree)


async def test_nothing_to_keep_is_kept_as_where_the_attempt_started(
    workspaces: GitWorkspaces, git_project: GitProject, request_at_work: StageRequest
) -> None:
    ref = await workspaces.keep(request_at_work)

    assert git_project.git("rev-parse", ref) == git_project.git("rev-parse", "main")


async def test_next_attempt_starts_afresh(
    workspaces: GitWorkspaces, request_at_work: StageRequest, worktree: Path
) -> None:
    write(worktree, {"draft.txt": "unfinished\n"})
    await workspaces.keep(request_at_work)

    second = Path(await workspaces.prepare(stage_request(request_at_work.head, attempt=2)))

    assert second != worktree
    assert not (second / "draft.txt").exists()


async def test_release_keeps_unmerged_work_and_removes_only_our_worktrees(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    request_at_work: StageRequest,
    worktree: Path,
    state_home: Path,
) -> None:
    write(worktree, {"draft.txt": "unfinished\n"})
    users = git_project.root.parent / "users tree"
    git_project.git("worktree", "add", "--quiet", "-b", "mine", str(users))
    unplugged = git_project.root.parent / "unplugged disk"
    git_project.git("worktree", "add", "--quiet", "-b", "far", str(unplugged))
    shutil.move(unplugged, unplugged.with_name("elsewhere"))
    assert request_at_work.head
    await workspaces.checkout_build(NUMBER, "backend", request_at_work.head.commit)

    await workspaces.release(NUMBER)
    await workspaces.release(NUMBER)

    kept = f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert git_project.text(kept, "draft.txt") == "unfinished"
    assert not (state_home / "worktrees" / NUMBER).exists()
    listed = git_project.git("worktree", "list", "--porcelain")
    assert [line for line in listed.splitlines() if line.startswith("worktree ")] == [
        f"worktree {git_project.root}",
        f"worktree {unplugged}",
        f"worktree {users}",
    ]
    assert git_project.git("rev-parse", f"agog/{NUMBER}/main")


@pytest.mark.ordinary_user
async def test_no_hook_runs_for_our_commits(
    workspaces: GitWorkspaces, git_project: GitProject, tmp_path: Path
) -> None:
    for hook in (
        "pre-commit", "commit-msg", "post-commit", "post-checkout", "post-merge",
        "pre-merge-commit", "reference-transaction", "post-index-change",
    ):  # fmt: skip
        script = git_project.root / ".git" / "hooks" / hook
        script.write_text(f'#!/bin/sh\necho {hook} >> "{tmp_path}/hooks ran"\nexit 1\n')
        script.chmod(0o755)

    head, target = await workspaces.open(NUMBER)
    results = []
    for name in ("First", "Second"):
        request = stage_request(head, name)
        write(Path(await workspaces.prepare(request)), {name: name})
        results.append(await workspaces.integrate(request, "done"))
    tip = results[-1].head.commit
    await workspaces.checkout_build(NUMBER, "backend", head.commit)
    await workspaces.checkout_build(NUMBER, "backend", tip)

    assert await workspaces.swap_target(NUMBER, target, tip)
    assert not (tmp_path / "hooks ran").exists()


def _leave_in_conflict(project: GitProject, worktree: Path) -> None:
    """A merge as an agent leaves it that is stopped in the middle."""
    project.git("switch", "--quiet", "--create", "theirs", at=worktree)
    for branch, text in (("theirs", "theirs\n"), ("agog/REQ-1/backend-implementation-1", "ours\n")):
        project.git("switch", "--quiet", branch, at=worktree)
        write(worktree, {"shared.txt": text})
        project.git("commit", "--quiet", "--all", "--message", text, at=worktree)
    with pytest.raises(CalledProcessError):
        project.git("merge", "--quiet", "theirs", at=worktree)
