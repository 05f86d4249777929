"""The worktrees that git knows below our state directory, and the locks that git left for us.

Nothing here is the user's: worktrees elsewhere and refs of other names are not looked at.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.git import Git
from adapters.locks import Locks, path_key
from adapters.workspaces.worktrees import WORKTREES, Worktree, Worktrees, registered

_OUR_REFS = ("refs/heads/agog", "refs/agog")


@dataclass(frozen=True)
class GitLock:
    """A lock file of git's, and the directory that whoever made it works in."""

    path: Path
    place: Path
    is_project: bool
    """Whether `place` is the user's project, in which others than git have business."""


class Registrations:
    """What the project's git directory holds for the worktrees of one state directory."""

    def __init__(self, project_root: Path, home: Path) -> None:
        """Take the root of the project's work tree and the host's state directory."""
        home = home.absolute().resolve()
        self._git = Git(project_root.absolute())
        self._root = home / WORKTREES
        self._locks = Locks(home / "locks")
        self._worktrees = Worktrees(self._git, self._root, self._locks)

    async def missing(self) -> tuple[Path, ...]:
        """Paths of registered worktrees whose folder is gone. Raises: GitFailed, ProjectRefused."""
        ours = await self._registered()
        return tuple(one.path for one in ours if not _is_there(one.path))

    async def forget(self, path: Path) -> bool:
        """Remove the registration of a worktree whose folder is gone; False if it is there.

        Raises: GitFailed, ProjectRefused.
        """
        async with self._locks.hold(path_key(path)):
            if _is_there(path) or self._root not in path.parents:
                return False
            await self._worktrees.discard(path)
        return True

    async def locks(self) -> tuple[GitLock, ...]:
        """Lock files of our worktrees and of our refs, held or not. Raises: as `missing`."""
        ours, common = await self._registered(), await self._common()
        return await asyncio.to_thread(lambda: tuple(self._locks_of(ours, common)))

    def _locks_of(self, ours: tuple[Worktree, ...], common: Path) -> Iterator[GitLock]:
        for worktree in ours:
            for path in worktree.git_dir.glob("*.lock"):
                yield GitLock(path, worktree.path, is_project=False)
        for refs in _OUR_REFS:
            for path in _files_below(common / refs):
                if path.suffix == ".lock":  # no ref may end so
                    yield GitLock(path, self._git.directory, is_project=True)

    async def _registered(self) -> tuple[Worktree, ...]:
        entries = await self._common() / "worktrees"
        return await asyncio.to_thread(lambda: tuple(self._below(entries)))

    def _below(self, entries: Path) -> Iterator[Worktree]:
        return (one for one in registered(entries) if self._root in one.path.parents)

    async def _common(self) -> Path:
        common = await self._git.run("rev-parse", "--git-common-dir")
        return self._git.directory / common.line


def _files_below(folder: Path) -> Iterator[Path]:
    """Git removes folders of refs that have become empty: `os.walk` passes over them."""
    for directory, _, names in os.walk(folder):
        for name in names:
            yield Path(directory, name)


def _is_there(path: Path) -> bool:
    return os.path.lexists(path)
