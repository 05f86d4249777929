"""Worktrees, registrations and git locks that have outlived what they were for."""

import os
import shutil
import time
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.host_care.orphaned_trees import EndedWorktrees, LostRegistrations, StaleLocks
from adapters.workspaces import GitWorkspaces
from adapters.workspaces.registrations import Registrations
from pipeline.model import RunEnd, StageRequest
from tests.care import KnownRequirements, a_run, sleeper
from tests.fixtures_workspaces import NUMBER, GitProject, exists, stage_request, write

OLD_SECONDS = 601.0


@pytest.fixture
async def at_work(workspaces: GitWorkspaces) -> StageRequest:
    head, _ = await workspaces.open(NUMBER)
    return stage_request(head)


@pytest.fixture
async def worktree(workspaces: GitWorkspaces, at_work: StageRequest) -> Path:
    return Path(await workspaces.prepare(at_work))


@pytest.fixture
def registrations(git_project: GitProject, state_home: Path) -> Registrations:
    return Registrations(git_project.root, state_home)


def care_of_lists(home: Path, registrations: Registrations) -> tuple[LostRegistrations, StaleLocks]:
    return LostRegistrations(home, registrations), StaleLocks(home, registrations)


def left_lock(path: Path, seconds: float = OLD_SECONDS) -> Path:
    """A lock file that a killed git has left that long ago."""
    path.touch()
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def git_dir(project: GitProject, worktree: Path) -> Path:
    return Path(project.git("rev-parse", "--absolute-git-dir", at=worktree))


async def test_worktrees_of_an_ended_requirement_are_removed_and_its_work_is_kept(
    workspaces: GitWorkspaces, worktree: Path, state_home: Path, git_project: GitProject
) -> None:
    write(worktree, {"work": "paid for"})
    known = KnownRequirements()
    care = EndedWorktrees(state_home, known, workspaces)
    assert await care.look() == {}
    known.end(NUMBER)

    assert await care.look() == {NUMBER: "its requirement has ended"}
    await care.end(NUMBER)

    assert not worktree.parent.exists()
    kept = f"refs/agog/{NUMBER}/kept/backend-implementation-1"
    assert git_project.text(kept, "work") == "paid for"
    assert await care.look() == {}


async def test_worktrees_with_a_run_without_an_end_or_just_ended_stay(
    workspaces: GitWorkspaces, worktree: Path, state_home: Path
) -> None:
    known = KnownRequirements()
    care = EndedWorktrees(state_home, known, workspaces)
    known.end(NUMBER, timedelta(minutes=9))
    looks = [await care.look()]
    known.end(NUMBER)
    a_run(state_home, f"{NUMBER}/wf-1/Research/1", ended=False)
    looks.append(await care.look())

    said = await care.end(NUMBER)

    assert looks == [{}, {}]
    assert "its worktrees stay" in said
    assert exists(worktree)


async def test_git_forgets_our_worktrees_whose_folder_is_gone_and_no_others(
    state_home: Path,
    registrations: Registrations,
    worktree: Path,
    git_project: GitProject,
    tmp_path: Path,
) -> None:
    users = tmp_path / "on a disk that is not mounted"
    git_project.git("worktree", "add", "--quiet", "-b", "theirs", str(users))
    care = LostRegistrations(state_home, registrations)
    assert await care.look() == {}
    shutil.rmtree(users)
    shutil.rmtree(worktree)

    assert await care.look() == {str(worktree): "its folder is gone"}
    await care.end(str(worktree))

    listed = git_project.git("worktree", "list")
    assert str(worktree) not in listed
    assert str(users) in listed
    assert await care.look() == {}


async def test_a_worktree_that_is_there_again_or_elsewhere_is_not_forgotten(
    state_home: Path,
    registrations: Registrations,
    worktree: Path,
    git_project: GitProject,
    tmp_path: Path,
) -> None:
    users = tmp_path / "theirs"
    git_project.git("worktree", "add", "--quiet", "-b", "theirs", str(users))
    shutil.rmtree(users)
    care = LostRegistrations(state_home, registrations)

    said = [await care.end(str(path)) for path in (worktree, users)]

    assert all("is there again" in each for each in said)
    listed = git_project.git("worktree", "list")
    assert str(worktree) in listed
    assert str(users) in listed


async def test_a_lock_without_an_owner_is_removed_and_the_work_goes_on(
    state_home: Path,
    registrations: Registrations,
    workspaces: GitWorkspaces,
    worktree: Path,
    at_work: StageRequest,
    git_project: GitProject,
) -> None:
    write(worktree, {"work": "done"})
    in_worktree = left_lock(git_dir(git_project, worktree) / "index.lock")
    of_ref = left_lock(git_project.root / f".git/refs/heads/agog/{NUMBER}/main.lock")
    care = StaleLocks(state_home, registrations)

    assert set(await care.look()) == {str(in_worktree), str(of_ref)}
    for lock in (in_worktree, of_ref):
        assert "without an owner" in await care.end(str(lock))

    assert await care.look() == {}
    merged = await workspaces.integrate(at_work, "done")
    assert "work" in git_project.files(merged.head.commit)
    assert "is gone, or held" in await care.end(str(of_ref))


async def test_the_worktree_of_a_run_without_an_end_is_its_agents_alone(
    registrations: Registrations, worktree: Path, git_project: GitProject, state_home: Path
) -> None:
    """An agent may move its worktree away and back; nobody else sees what holds its locks."""
    lock = left_lock(git_dir(git_project, worktree) / "index.lock")
    run = a_run(state_home, f"{NUMBER}/wf-1/Backend/1", ended=False, worktree=worktree)
    shutil.move(worktree, state_home / "away")
    lost, stale = care_of_lists(state_home, registrations)

    looks = [await lost.look(), await stale.look()]
    said = [await lost.end(str(worktree)), await stale.end(str(lock))]

    assert looks == [{}, {}]
    assert "at work" in said[0]
    assert "held" in said[1]
    shutil.move(state_home / "away", worktree)
    assert str(worktree) in git_project.git("worktree", "list")
    run.write_exit(RunEnd.LOST, "")
    assert list(await stale.look()) == [str(lock)]


async def test_young_locks_and_those_of_the_user_stay(
    state_home: Path, registrations: Registrations, worktree: Path, git_project: GitProject
) -> None:
    locks = [
        left_lock(git_dir(git_project, worktree) / "index.lock", seconds=590),
        left_lock(git_project.root / ".git/index.lock"),
        left_lock(git_project.root / ".git/refs/heads/main.lock"),
    ]
    care = StaleLocks(state_home, registrations)

    assert await care.look() == {}
    for lock in locks:
        await care.end(str(lock))

    assert all(lock.exists() for lock in locks)


@pytest.mark.parametrize("at_home", ["directory", "variable"])
async def test_a_lock_stays_while_a_process_that_may_own_it_works_in_the_worktree(
    state_home: Path,
    registrations: Registrations,
    worktree: Path,
    git_project: GitProject,
    at_home: str,
) -> None:
    lock = git_dir(git_project, worktree) / "index.lock"
    care = StaleLocks(state_home, registrations, stale_seconds=0)
    directory, named = (worktree, "") if at_home == "directory" else (None, str(worktree))

    with sleeper({"AGOG_WORKTREE": named}, directory):
        lock.touch()
        assert await care.look() == {}

    assert list(await care.look()) == [str(lock)]
