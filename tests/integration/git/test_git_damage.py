"""Clones that agents leave closed, damaged or full of pipes, and disks that are full meanwhile."""

import asyncio
import os
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from pipeline.errors import GitFailed
from pipeline.model import StageRequest
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request
from tests.full_disk import small_disk

PACK = f".git/objects/pack/pack-{'0' * 40}.idx"


@pytest.fixture
async def at_work(workspaces: GitWorkspaces) -> StageRequest:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    clone = GitProject(Path(await workspaces.prepare(request)))
    clone.commit({"left.txt": "left\n"})
    clone.git("branch", "mine")
    clone.git("reset", "--quiet", "--hard", head.commit)
    (clone.root / "app.py").write_text("a\n")
    return request


@pytest.fixture
async def clone(workspaces: GitWorkspaces, at_work: StageRequest) -> GitProject:
    return GitProject(Path(await workspaces.prepare(at_work)))


@pytest.mark.parametrize(
    "place",
    [
        ".gitignore", "deep/down/.gitattributes", ".gitmodules", "data", ".git/refs/heads/x",
        ".git/packed-refs", ".git/shallow", ".git/HEAD", ".git/index", ".git/logs/HEAD",
        ".git/info/exclude", ".git/MERGE_HEAD", PACK,
    ],
)  # fmt: skip
@pytest.mark.parametrize("by", ["itself", "a link"])
async def test_pipe_is_left_out_and_stops_nothing(
    workspaces: GitWorkspaces,
    store: GitProject,
    at_work: StageRequest,
    clone: GitProject,
    tmp_path: Path,
    place: str,
    by: str,
) -> None:
    if by == "a link" and not place.startswith(".git/"):
        pytest.skip("a link out of the tree is refused for what it is")
    path = clone.root / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path if by == "itself" else tmp_path / "pipe")
    if by == "a link":
        path.symlink_to(tmp_path / "pipe")

    async with asyncio.timeout(PATIENCE_SECONDS):  # a git that opens a pipe waits for ever
        result = await workspaces.integrate(at_work, "done")

    assert not result.refusal
    assert store.text(result.head.commit, "app.py") == "a"
    if not place.startswith(".git/"):
        assert f"Left out, since it is no file: {place}" in result.remarks


@pytest.mark.ordinary_user
async def test_repository_that_is_closed_is_opened(
    workspaces: GitWorkspaces, store: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    clone.git("worktree", "add", "--quiet", "inner")
    (clone.root / "inner" / "note").write_text("x\n")
    for closed in (
        "inner", ".git/index", ".git/HEAD", ".git/refs/heads/mine", ".git/refs", ".git/logs/HEAD",
        ".git/logs", ".git/packed-refs", ".git/objects", ".git/config", ".git", ".",
    ):  # fmt: skip
        (clone.root / closed).chmod(0)

    result = await workspaces.integrate(at_work, "done")

    assert not result.refusal
    assert store.text(result.head.commit, "app.py") == "a"
    assert "heads/mine" in "".join(result.remarks)
    assert "worktrees/inner" in "".join(result.remarks)


@pytest.mark.parametrize("head", ["", "garbage\n", "ref: \n", "ref: refs/heads/a b\n", "\0\0"])
async def test_branches_beside_a_damaged_head_are_kept(
    workspaces: GitWorkspaces,
    store: GitProject,
    at_work: StageRequest,
    clone: GitProject,
    head: str,
) -> None:
    (clone.root / ".git/HEAD").write_text(head)

    result = await workspaces.integrate(at_work, "done")

    assert store.text(result.head.commit, "app.py") == "a"
    assert "heads/mine" in "".join(result.remarks)
    assert "Its HEAD cannot be read" in "".join(result.remarks)


async def test_files_beside_removed_refs_are_taken(
    workspaces: GitWorkspaces, store: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    clone.shell("rm -rf .git/refs .git/packed-refs")

    result = await workspaces.integrate(at_work, "done")

    assert store.text(result.head.commit, "app.py") == "a"


async def test_full_disk_is_not_taken_for_damage_of_the_clone(
    git_project: GitProject, tmp_path: Path
) -> None:
    """What could not be read for lack of room is read when there is some: it is not dropped."""
    with small_disk(tmp_path / "small", 24) as disk:
        workspaces = GitWorkspaces(git_project.root, disk.path / "home")
        head, _ = await workspaces.open(NUMBER)
        request = stage_request(head)
        clone = GitProject(Path(await workspaces.prepare(request)))
        clone.git("switch", "--quiet", "-c", "mine")
        (clone.root / "large").write_bytes(os.urandom(3_000_000))
        clone.commit({"left.txt": "left\n"})
        clone.git("switch", "--quiet", "--detach", head.commit)
        (clone.root / "app.py").write_text("a\n")
        with (disk.path / "most").open("wb") as most:
            free = os.statvfs(disk.path)
            most.write(b"x" * (free.f_bavail * free.f_bsize - 1_000_000))
        with pytest.raises(GitFailed, match="No space left on device"):
            await workspaces.integrate(request, "done")

        (disk.path / "most").unlink()
        result = await workspaces.integrate(request, "done")

    assert "heads/mine" in "".join(result.remarks)


async def test_what_cannot_be_removed_is_put_aside_and_named_at_the_end(
    workspaces: GitWorkspaces, store: GitProject, at_work: StageRequest, clone: GitProject
) -> None:
    """As files are that a container of the agent's has written as root."""
    (clone.root / ".gitignore").write_text("node_modules\n")
    with small_disk(clone.root / "node_modules", 1):
        result = await workspaces.integrate(at_work, "done")

        assert store.text(result.head.commit, "app.py") == "a"
        assert not clone.root.exists()
        assert Path(await workspaces.prepare(at_work)) == clone.root
        with pytest.raises(GitFailed, match="cannot be removed"):
            await workspaces.release(NUMBER)
    await workspaces.release(NUMBER)
    assert not clone.root.parent.exists()


async def test_what_lies_beside_the_clones_is_kept_and_told(
    workspaces: GitWorkspaces, state_home: Path, at_work: StageRequest, clone: GitProject
) -> None:
    clone.shell("echo n > ../notes.md; git clone --quiet . ../work; git worktree add -q ../wt")
    clone.shell("mkdir ../build-output; echo b > ../build-output/log")

    result = await workspaces.integrate(at_work, "done")
    await workspaces.release(NUMBER)

    kept = state_home / "left" / NUMBER
    assert (
        f"Beside the clones of the agents, kept in {kept}: build-output, notes.md, work"
        in result.remarks
    )
    assert (kept / "notes.md").read_text() == "n\n"
    assert (kept / "work/shared.txt").exists()
    assert (kept / "build-output/log").exists()
    assert not (kept / "wt").exists()
