"""What agents leave in their clones, and what is taken of it."""

import shutil
from pathlib import Path
from subprocess import CalledProcessError

import pytest

from adapters.git import GitWorkspaces
from pipeline.model import StageRequest
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write

LEFT = f"refs/agog/{NUMBER}/left/backend-implementation-1"


@pytest.fixture
async def request_at_work(workspaces: GitWorkspaces) -> StageRequest:
    head, _ = await workspaces.open(NUMBER)
    return stage_request(head)


@pytest.fixture
async def clone(workspaces: GitWorkspaces, request_at_work: StageRequest) -> Path:
    return Path(await workspaces.prepare(request_at_work))


async def test_agents_own_commits_are_its_result(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
) -> None:
    write(clone, {"one": "1"})
    git_project.git("add", "one", at=clone)
    git_project.git("commit", "--quiet", "--message", "mine", at=clone)
    write(clone, {"two": "2"})

    result = await workspaces.integrate(request_at_work, "done")

    assert result.head.position == 2
    assert {"one", "two"} <= set(store.files(result.head.commit))


@pytest.mark.parametrize("move", [("--detach",), ("--create", "wild"), ("--orphan", "wild")])
async def test_head_is_taken_wherever_the_agent_left_it(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
    move: tuple[str, ...],
) -> None:
    git_project.git("switch", "--quiet", *move, at=clone)
    write(clone, {"one": "1"})
    git_project.git("add", "one", at=clone)
    git_project.git("commit", "--quiet", "--message", "mine", at=clone)
    write(clone, {"two": "2"})

    result = await workspaces.integrate(request_at_work, "done")

    assert {"one", "two"} <= set(store.files(result.head.commit))
    branch = f"agog/{NUMBER}/backend-implementation-1"
    assert store.git("rev-parse", branch) == result.commit


async def test_ignored_files_are_not_committed(
    workspaces: GitWorkspaces,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
) -> None:
    write(clone, {"node_modules/left-pad/index.js": "x", "app.js": "y"})

    result = await workspaces.integrate(request_at_work, "done")

    assert "app.js" in store.files(result.commit)
    assert not [name for name in store.files(result.commit) if "node_modules" in name]


async def test_deleted_renamed_and_oddly_named_files_are_committed(
    workspaces: GitWorkspaces,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
) -> None:
    (clone / "shared.txt").unlink()
    (clone / "readme.md").rename(clone / "läs mig\n.md")
    (clone / "link").symlink_to("/nowhere")

    result = await workspaces.integrate(request_at_work, "done")

    names = store.git("ls-tree", "-r", "-z", "--name-only", result.commit).split("\0")
    assert sorted(filter(None, names)) == [".gitignore", "link", "läs mig\n.md"]


@pytest.mark.parametrize("has_commit", [True, False])
async def test_repository_inside_the_clone_is_committed_as_files(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
    has_commit: bool,
) -> None:
    inner = clone / "web app"
    git_project.git("init", "--quiet", str(inner))
    write(inner, {"src/index.js": "x", "build/out": "x", ".gitignore": "build/\n"})
    git_project.git("init", "--quiet", str(inner / "deeper"))
    write(inner / "deeper", {"file": "x"})
    if has_commit:
        git_project.git("add", "src", at=inner)
        git_project.git("commit", "--quiet", "--message", "inner", at=inner)
        git_project.git("add", "--all", at=clone)
        git_project.git("commit", "--quiet", "--message", "as a gitlink", at=clone)

    result = await workspaces.integrate(request_at_work, "done")

    inside = [name for name in store.files(result.commit) if name.startswith("web app/")]
    assert inside == ["web app/.gitignore", "web app/deeper/file", "web app/src/index.js"]


async def test_worktree_inside_the_clone_is_left_out_of_the_files_and_kept(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
) -> None:
    git_project.git("worktree", "add", "--quiet", "-b", "side", "trees/side", at=clone)
    write(clone, {"app.js": "y", "trees/side/draft": "not committed"})

    result = await workspaces.integrate(request_at_work, "done")

    assert store.files(result.commit) == [".gitignore", "app.js", "readme.md", "shared.txt"]
    (left,) = store.git("for-each-ref", "--format=%(refname)", LEFT).splitlines()
    assert store.text(left, "draft") == "not committed"
    assert "worktrees/side" in result.remarks[-1]


@pytest.mark.parametrize("by", ["nothing", "a repository", "a link", "a pointer"])
async def test_git_directory_that_was_removed_or_replaced_loses_no_work(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
    by: str,
) -> None:
    """Its place may lead to another repository: that one is not read, and not written to."""
    shutil.rmtree(clone / ".git")
    if by == "a repository":
        git_project.git("init", "--quiet", at=clone)
    elif by == "a link":
        (clone / ".git").symlink_to(git_project.root / ".git")
    elif by == "a pointer":
        (clone / ".git").write_text(f"gitdir: {git_project.root / '.git'}\n")
    before = git_project.state()
    write(clone, {"app.js": "y"})

    result = await workspaces.integrate(request_at_work, "done")

    assert store.files(result.head.commit) == [".gitignore", "app.js", "readme.md", "shared.txt"]
    assert bool(result.remarks) == (by != "a repository")
    assert not exists(clone)
    assert git_project.state() == before


@pytest.mark.parametrize("ending", ["as it is", "staged", "committed"])
async def test_markers_of_a_conflict_are_a_conflict_however_they_are_left(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
    ending: str,
) -> None:
    _leave_in_conflict(git_project, clone)
    if ending != "as it is":
        git_project.git("add", "--all", at=clone)
    if ending == "committed":
        git_project.git("commit", "--quiet", "--message", "merged", at=clone)

    result = await workspaces.integrate(request_at_work, "done")
    again = await workspaces.integrate(request_at_work, "done")

    assert result.conflicts == ("shared.txt",)
    assert again == result  # its clone is gone by now: the outcome was stored first
    assert store.git("rev-parse", f"agog/{NUMBER}/main") == git_project.git("rev-parse", "main")
    assert "<<<<<<<" in store.text(await workspaces.keep(request_at_work), "shared.txt")


async def test_merge_that_was_resolved_is_merged(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
) -> None:
    _leave_in_conflict(git_project, clone)
    write(clone, {"shared.txt": "resolved\n"})

    result = await workspaces.integrate(request_at_work, "done")

    assert result.conflicts == ()
    assert store.text(result.head.commit, "shared.txt") == "resolved"


async def test_width_of_a_marker_is_the_attribute_of_its_path(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    git_project.commit({".gitattributes": "*.rst conflict-marker-size=12\n"})
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    files = {
        "guide.rst": "<<<<<<< an example in the text\n=======\n>>>>>>> of it\n",
        "bad.rst": "<<<<<<<<<<<< HEAD\nours\n============\ntheirs\n>>>>>>>>>>>> x\n",
        "half.txt": "resolved, but for one line\n>>>>>>> other\n",
        "title.txt": "Title\n=======\n",
    }
    write(Path(await workspaces.prepare(request)), files)

    result = await workspaces.integrate(request, "done")

    assert result.conflicts == ("bad.rst", "half.txt")


async def test_markers_are_found_whatever_attributes_and_sizes_say(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    git_project.commit({".gitattributes": "*.lock -diff\n*.min binary\n"})
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    conflict = "<<<<<<< HEAD\na\n=======\nb\n>>>>>>> x\n"
    large = "a line of some length\n" * 500_000
    write(clone, {"a.lock": conflict, "b.min": conflict, "large": large + conflict})
    # Of sides without a name, in a file with the line ends of Windows.
    (clone / "bare.txt").write_bytes(b"<<<<<<<\r\na\r\n=======\r\nb\r\n>>>>>>>\r\n")

    found = (await workspaces.integrate(request, "done")).conflicts
    assert found == ("a.lock", "b.min", "bare.txt", "large")


async def test_binary_file_that_nobody_has_resolved_is_a_conflict(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    git_project.commit({".gitattributes": "*.bin binary\n", "a.bin": "base\0"})
    git_project.git("switch", "--quiet", "--create", "theirs")
    git_project.commit({"a.bin": "theirs\0"})
    git_project.git("switch", "--quiet", "main")
    git_project.commit({"a.bin": "ours\0"})
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    with pytest.raises(CalledProcessError):
        git_project.git("merge", "--quiet", "theirs", at=clone)

    assert (await workspaces.integrate(request, "done")).conflicts == ("a.bin",)


async def test_agent_that_removes_its_clone_is_red(
    workspaces: GitWorkspaces, request_at_work: StageRequest, clone: Path
) -> None:
    shutil.rmtree(clone)

    result = await workspaces.integrate(request_at_work, "done")

    assert "removed its working copy" in result.refusal
    assert not result.changed


async def test_markers_that_a_parent_holds_are_text(
    workspaces: GitWorkspaces, git_project: GitProject
) -> None:
    """Such as those of a document on git, on the base or in what the agent has merged."""
    example = "<<<<<<< HEAD\n=======\n>>>>>>> x\n"
    git_project.git("switch", "--quiet", "--create", "docs")
    git_project.commit({"merging.md": example})
    git_project.git("switch", "--quiet", "main")
    git_project.commit({"git.md": example})
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = Path(await workspaces.prepare(request))
    write(clone, {"git.md": f"More.\n{example}"})
    git_project.git("commit", "--quiet", "--all", "--message", "more", at=clone)
    git_project.git("merge", "--quiet", "docs", at=clone)

    assert (await workspaces.integrate(request, "done")).conflicts == ()


@pytest.mark.ordinary_user
async def test_what_an_attempt_left_is_kept_with_merge_and_lock_half_done(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
) -> None:
    _leave_in_conflict(git_project, clone)
    write(clone, {"draft.txt": "unfinished\n"})
    git_dir = Path(git_project.git("rev-parse", "--absolute-git-dir", at=clone))
    (git_dir / "index.lock").touch()

    ref = await workspaces.keep(request_at_work)

    assert ref == f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert store.text(ref, "draft.txt") == "unfinished"
    assert not exists(clone)
    assert not exists(git_dir)


async def test_keeping_again_changes_nothing(
    workspaces: GitWorkspaces,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
) -> None:
    write(clone, {"draft.txt": "unfinished\n"})
    ref = await workspaces.keep(request_at_work)
    kept = store.git("rev-parse", ref)

    await workspaces.prepare(request_at_work)

    assert await workspaces.keep(request_at_work) == ref
    assert store.git("rev-parse", ref) == kept
    assert not exists(clone)


async def test_nothing_to_keep_is_kept_as_where_the_attempt_started(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
) -> None:
    ref = await workspaces.keep(request_at_work)

    assert store.git("rev-parse", ref) == git_project.git("rev-parse", "main")


async def test_next_attempt_starts_afresh(
    workspaces: GitWorkspaces, request_at_work: StageRequest, clone: Path
) -> None:
    write(clone, {"draft.txt": "unfinished\n"})
    await workspaces.keep(request_at_work)

    second = Path(await workspaces.prepare(stage_request(request_at_work.head, attempt=2)))

    assert second != clone
    assert not (second / "draft.txt").exists()


async def test_release_keeps_unmerged_work_and_leaves_the_users_repository_alone(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    store: GitProject,
    request_at_work: StageRequest,
    clone: Path,
    state_home: Path,
) -> None:
    write(clone, {"draft.txt": "unfinished\n"})
    before = git_project.git("for-each-ref"), git_project.git("worktree", "list")
    assert request_at_work.head
    await workspaces.checkout_build(NUMBER, "backend", request_at_work.head.commit, clean=True)

    await workspaces.release(NUMBER)
    await workspaces.release(NUMBER)

    kept = f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert store.text(kept, "draft.txt") == "unfinished"
    assert not exists(state_home / "clones" / NUMBER)
    assert not exists(state_home / "indexes" / NUMBER)
    assert (git_project.git("for-each-ref"), git_project.git("worktree", "list")) == before
    assert store.git("rev-parse", f"agog/{NUMBER}/main")


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
    await workspaces.checkout_build(NUMBER, "backend", head.commit, clean=True)
    await workspaces.checkout_build(NUMBER, "backend", tip, clean=True)

    assert await workspaces.swap_target(NUMBER, target, tip)
    assert not (tmp_path / "hooks ran").exists()


def _leave_in_conflict(project: GitProject, clone: Path) -> None:
    """A merge as an agent leaves it that is stopped in the middle."""
    project.git("switch", "--quiet", "--create", "theirs", at=clone)
    for branch, text in (("theirs", "theirs\n"), ("agog/REQ-1/backend-implementation-1", "ours\n")):
        project.git("switch", "--quiet", branch, at=clone)
        write(clone, {"shared.txt": text})
        project.git("commit", "--quiet", "--all", "--message", text, at=clone)
    with pytest.raises(CalledProcessError):
        project.git("merge", "--quiet", "theirs", at=clone)
