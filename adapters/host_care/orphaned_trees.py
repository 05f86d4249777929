"""Worktrees of ended requirements, registrations without a worktree, and locks without an owner."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from adapters.host_care.parts import Requirements
from adapters.runs.inventory import folders, has_unended, working_directories
from adapters.workspaces.registrations import GitLock, Registrations
from adapters.workspaces.worktrees import WORKTREES
from pipeline.ports import Workspaces

RELEASING = timedelta(minutes=10)
"""After its requirement's end a worktree is no orphan yet: large ones take time to remove."""
STALE_SECONDS = 600.0
"""Age of a lock that nobody holds any more: git's own commands on refs and indexes take seconds."""
_CLOCK_SECONDS = 2.0
"""Two clocks are compared: that of the file system, and the kernel's count since its boot."""


class EndedWorktrees:
    """Worktrees of requirements that have ended."""

    name = "worktrees"

    def __init__(self, home: Path, requirements: Requirements, workspaces: Workspaces) -> None:
        """Take the state directory, what is known of requirements, and the project."""
        self._home = home.absolute()
        self._requirements = requirements
        self._workspaces = workspaces

    async def look(self) -> Mapping[str, str]:
        """Numbers of the requirements."""
        below = await asyncio.to_thread(folders, self._home / WORKTREES)
        numbers = await self._over(sorted(folder.name for folder in below))
        return dict.fromkeys(numbers, "its requirement has ended")

    async def end(self, name: str) -> str:
        """Remove them; what no ref holds yet is kept. Raises: GitFailed, ProjectRefused."""
        if not await self._over([name]):
            return f"{name} has not ended, or has a run without an end: its worktrees stay."
        await self._workspaces.release(name)
        return f"Removed the worktrees of {name}, which has ended."

    async def _over(self, numbers: Sequence[str]) -> Sequence[str]:
        if not numbers:
            return ()
        ended = await self._requirements.ended(numbers)
        until = datetime.now(UTC) - RELEASING
        long_ago = [number for number, at in ended.items() if at < until]
        return await asyncio.to_thread(_without_runs, self._home, long_ago)


class LostRegistrations:
    """Worktrees that git knows and whose folder is gone."""

    name = "registration"

    def __init__(self, home: Path, registrations: Registrations) -> None:
        """Take the state directory and the registrations below it."""
        self._home = home.absolute()
        self._registrations = registrations

    async def look(self) -> Mapping[str, str]:
        """Their paths; an agent that is at work may have moved its worktree for a moment."""
        missing = await self._registrations.missing()
        at_work = await asyncio.to_thread(working_directories, self._home)
        return {str(path): "its folder is gone" for path in missing if path not in at_work}

    async def end(self, name: str) -> str:
        """Let git forget it, under the lock of whoever makes it anew."""
        if Path(name) in await asyncio.to_thread(working_directories, self._home):
            return f"An agent may be at work in {name}."
        if not await self._registrations.forget(Path(name)):
            return f"{name} is there again."
        return f"Git forgot the worktree {name}, whose folder is gone."


class StaleLocks:
    """Lock files of git's, in our worktrees and of our refs, whose owner is dead."""

    name = "lock"

    def __init__(
        self, home: Path, registrations: Registrations, stale_seconds: float = STALE_SECONDS
    ) -> None:
        """Take the state directory, the registrations below it, and the age of an old lock."""
        self._home = home.absolute()
        self._registrations = registrations
        self._stale_seconds = stale_seconds

    async def look(self) -> Mapping[str, str]:
        """Their paths."""
        stale = await self._stale()
        return {str(lock.path): "old, and no process is left that made it" for lock in stale}

    async def end(self, name: str) -> str:
        """Remove it, if it still has no owner."""
        for lock in await self._stale():
            if str(lock.path) == name:
                lock.path.unlink(missing_ok=True)
                return f"Removed {name}, a lock without an owner."
        return f"{name} is gone, or held."

    async def _stale(self) -> Sequence[GitLock]:
        locks = await self._registrations.locks()
        at_work = await asyncio.to_thread(working_directories, self._home)
        free = [lock for lock in locks if lock.place not in at_work]
        return await asyncio.to_thread(_stale, free, time.time() - self._stale_seconds)


def _without_runs(home: Path, numbers: Sequence[str]) -> Sequence[str]:
    return [number for number in numbers if not has_unended(home, number)]


def _stale(locks: Sequence[GitLock], until: float) -> Sequence[GitLock]:
    made = [(lock, _made_at(lock.path)) for lock in locks]
    old = [(lock, at) for lock, at in made if at is not None and at < until]
    processes = list(psutil.process_iter()) if old else []
    return [lock for lock, at in old if not any(_may_own(it, lock, at) for it in processes)]


def _made_at(path: Path) -> float | None:
    try:
        return path.lstat().st_mtime
    except FileNotFoundError:
        return None


def _may_own(process: psutil.Process, lock: GitLock, made_at: float) -> bool:
    """Whether a process is old enough, and works where the lock is.

    In a worktree anything may use git by a library; in the user's project only git itself counts.
    """
    is_git = False
    try:
        is_git = bool(process.name() == "git")
        if process.create_time() > made_at + _CLOCK_SECONDS or (lock.is_project and not is_git):
            return False
        if Path(process.cwd()).is_relative_to(lock.place):
            return True
        return bool(process.environ().get("AGOG_WORKTREE") == str(lock.place))
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return is_git  # another user's: whatever is not git has no business here
