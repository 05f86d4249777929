"""The user's checkout is moved as a whole or not at all, whatever stops git half-way."""

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from adapters.git import GitWorkspaces
from adapters.git.checkout import Move
from adapters.git.command import Git
from adapters.git.store import store_path
from pipeline.errors import ProjectRefused
from pipeline.model import Head
from tests.fixtures_workspaces import NUMBER, GitProject, stage_request, write
from tests.full_disk import small_disk

BEFORE = {"shared.txt": "one\n", "docs/a.txt": "a\n", "gone.txt": "gone\n", "was/file": "x\n"}
DEED = (
    "echo two > shared.txt; echo b >> docs/a.txt; rm gone.txt; echo n > docs/n; mkdir new; "
    "echo new > new/deep; ln -s shared.txt link; rm -r was; echo now > was; "
    "for i in 1 2 3 4; do head -c 300000 /dev/urandom > big$i; done"
)


async def worked(workspaces: GitWorkspaces) -> Head:
    head, _ = await workspaces.open(NUMBER)
    request = stage_request(head)
    GitProject(Path(await workspaces.prepare(request))).shell(DEED)
    return (await workspaces.integrate(request, "done")).head


@pytest.fixture
async def tip(workspaces: GitWorkspaces, git_project: GitProject) -> Head:
    git_project.commit(BEFORE)
    return await worked(workspaces)


def assert_moved(project: GitProject, tip: Head) -> None:
    assert project.git("rev-parse", "main") == tip.commit
    assert project.git("status", "--porcelain") == ""


async def test_full_disk_leaves_the_checkout_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 12) as disk:
        project = GitProject(disk.path / "project").init()
        project.commit(BEFORE)
        workspaces = GitWorkspaces(project.root, tmp_path / "home")
        tip = await worked(workspaces)
        before = project.state()
        with (disk.path / "most").open("wb") as most:
            free = os.statvfs(disk.path)
            most.write(b"x" * (free.f_bavail * free.f_bsize - 1_800_000))

        with pytest.raises(ProjectRefused, match="unable to write file big"):
            await workspaces.swap_target(NUMBER, "main", tip.commit)
        assert project.state() == before

        (disk.path / "most").unlink()
        assert await workspaces.swap_target(NUMBER, "main", tip.commit)
        assert_moved(project, tip)


@pytest.mark.ordinary_user
async def test_closed_folder_leaves_the_checkout_as_it_was(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    before = git_project.state()
    (git_project.root / "docs").chmod(0o555)
    is_closed = not os.access(git_project.root / "docs", os.W_OK)  # to root nothing is
    if is_closed:
        with pytest.raises(ProjectRefused, match="docs"):
            await workspaces.swap_target(NUMBER, "main", tip.commit)
        assert git_project.state() == before
    (git_project.root / "docs").chmod(0o755)

    assert await workspaces.swap_target(NUMBER, "main", tip.commit)
    assert_moved(git_project, tip)


def files_and_index(project: GitProject, tip: Head) -> None:
    project.git("read-tree", "-m", "-u", "HEAD", tip.commit)


def files_alone(project: GitProject, tip: Head) -> None:
    files_and_index(project, tip)
    project.git("read-tree", "--reset", "HEAD")


def half_the_files(project: GitProject, tip: Head) -> None:
    project.shell(
        "rm -r shared.txt gone.txt was; mkdir new; printf n > new/deep; printf a > docs/a.txt"
    )


def first_file(project: GitProject, tip: Head) -> None:
    project.shell("rm docs/a.txt")


def nothing(project: GitProject, tip: Head) -> None:
    pass


@pytest.mark.parametrize(
    "half", [files_and_index, files_alone, half_the_files, first_file, nothing]
)
async def test_move_that_a_power_cut_stopped_is_made_again(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    state_home: Path,
    tip: Head,
    half: Callable[[GitProject, Head], None],
) -> None:
    await begun(workspaces, git_project, state_home, tip)
    half(git_project, tip)

    assert await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert_moved(git_project, tip)


async def test_move_that_a_power_cut_stopped_is_undone_when_nobody_delivers(
    workspaces: GitWorkspaces, git_project: GitProject, state_home: Path, tip: Head
) -> None:
    before = git_project.state()
    await begun(workspaces, git_project, state_home, tip)
    files_and_index(git_project, tip)

    await workspaces.release(NUMBER)

    assert git_project.state() == before


async def begun(
    workspaces: GitWorkspaces, project: GitProject, state_home: Path, tip: Head
) -> None:
    """What a worker that died in mid-move has left: its note, and the objects."""
    store = store_path(state_home, project.root)
    project.git("fetch", "--quiet", str(store), tip.commit)
    place = Git(project.root)
    move = await Move.planned(place, "main", project.git("rev-parse", "HEAD"), tip.commit)
    move.note(store / "moves" / f"{NUMBER}.json")


@pytest.mark.parametrize(
    ("sparse_index", "half"),
    [
        ("--no-sparse-index", files_and_index),
        ("--sparse-index", files_and_index),
        ("--sparse-index", files_alone),
        ("--no-sparse-index", half_the_files),
    ],
)
async def test_sparse_checkout_is_as_sparse_after_a_move_was_undone(
    workspaces: GitWorkspaces,
    git_project: GitProject,
    state_home: Path,
    tip: Head,
    half: Callable[[GitProject, Head], None],
    sparse_index: str,
) -> None:
    git_project.git("sparse-checkout", "set", sparse_index, "new")
    git_project.git("update-index", "--skip-worktree", "readme.md")

    def seen() -> tuple[object, ...]:
        shown = git_project.git("ls-files", "-t", "--stage"), sorted(git_project.root.iterdir())
        return (*git_project.state(), *shown)

    before = seen()
    await begun(workspaces, git_project, state_home, tip)
    with contextlib.suppress(subprocess.CalledProcessError):  # some files are not there
        half(git_project, tip)

    await workspaces.release(NUMBER)

    assert seen() == before
    assert await workspaces.swap_target(NUMBER, "main", tip.commit)
    assert_moved(git_project, tip)
    assert not (git_project.root / "docs").exists()


async def test_what_the_user_has_edited_since_is_left_alone(
    workspaces: GitWorkspaces, git_project: GitProject, state_home: Path, tip: Head
) -> None:
    await begun(workspaces, git_project, state_home, tip)
    files_alone(git_project, tip)
    write(git_project.root, {"shared.txt": "mine\n"})

    with pytest.raises(ProjectRefused, match=r"uncommitted changes \(shared\.txt\)"):
        await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert git_project.git("status", "--porcelain") == "M shared.txt"
    git_project.git("restore", "shared.txt")
    assert await workspaces.swap_target(NUMBER, "main", tip.commit)
    assert_moved(git_project, tip)


@pytest.mark.parametrize(
    "deed",
    [
        "rm -r docs; echo precious > docs",
        "rm -r docs; mkdir elsewhere; ln -s elsewhere docs",
        ": > docs/n",
        "git switch -q -c feature; git add -A; git commit -q --allow-empty -m mine",
        ": > docs/n; git switch -q -c feature; git add -A; git commit -q -m mine",
    ],
)
async def test_old_note_touches_nothing_of_the_users(
    workspaces: GitWorkspaces, git_project: GitProject, state_home: Path, tip: Head, deed: str
) -> None:
    await begun(workspaces, git_project, state_home, tip)
    git_project.shell(f"git config user.name u; git config user.email u@x; {deed}")
    before = (git_project.state(), sorted(git_project.root.rglob("*")))

    with contextlib.suppress(ProjectRefused):
        await workspaces.release(NUMBER)

    assert (git_project.state(), sorted(git_project.root.rglob("*"))) == before


async def test_lock_of_the_users_git_keeps_ours_from_undoing(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    lock = git_project.root / ".git/index.lock"
    lock.touch()
    with pytest.raises(ProjectRefused, match=r"index\.lock"):
        await workspaces.swap_target(NUMBER, "main", tip.commit)
    lock.unlink()

    assert git_project.git("status", "--porcelain") == ""
    assert await workspaces.swap_target(NUMBER, "main", tip.commit)


async def test_move_that_was_stopped_is_undone_before_another_requirement_starts(
    workspaces: GitWorkspaces, git_project: GitProject, state_home: Path, tip: Head
) -> None:
    await begun(workspaces, git_project, state_home, tip)
    files_alone(git_project, tip)

    await workspaces.open("REQ-2")

    assert git_project.git("status", "--porcelain") == ""


async def test_untracked_file_in_the_way_survives_the_refusal(
    workspaces: GitWorkspaces, git_project: GitProject, tip: Head
) -> None:
    write(git_project.root, {"new/deep": ""})

    for _ in range(2):
        with pytest.raises(ProjectRefused, match="new/deep"):
            await workspaces.swap_target(NUMBER, "main", tip.commit)

    assert git_project.git("status", "--porcelain") == "?? new/"
