"""Worktrees of our own: made, found again, removed; never one of the user's."""

import asyncio
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.git import Git
from adapters.locks import Locks, path_key
from pipeline.errors import GitFailed, RefusedInput

WORKTREES = "worktrees"
"""Folder of the state directory that holds the worktrees: number / name."""


@dataclass(frozen=True)
class Worktree:
    """A checkout and git's administrative directory of it, which an agent cannot delete by mistake.

    Git is always told both: a checkout without its `.git` file would silently be taken for a part
    of the repository around it.
    """

    path: Path
    git_dir: Path

    @property
    def git(self) -> Git:
        """Git in this worktree, whatever stands at its `.git`."""
        return Git(self.path, {"GIT_DIR": str(self.git_dir), "GIT_WORK_TREE": str(self.path)})

    @property
    def is_whole(self) -> bool:
        """Whether its making was finished, and tools that look for `.git` find it."""
        return (self.path / ".git").is_file() and not self.is_half_made

    @property
    def is_usable(self) -> bool:
        """Whether its files can be trusted to be all that was left in it."""
        return self.path.is_dir() and not self.is_half_made

    @property
    def is_half_made(self) -> bool:
        """Whether `git worktree add` died: it locks the worktree for as long as it works."""
        return (self.git_dir / "locked").exists()

    def unlock(self) -> None:
        """Remove git's lock files of a worktree in which nothing runs any more.

        A killed git leaves them, and they would refuse every later one.
        """
        for lock in self.git_dir.glob("*.lock"):
            lock.unlink(missing_ok=True)


class Worktrees:
    """The worktrees below one directory, each registered in the project.

    Git's list of worktrees is changed by one at a time; who uses a path is the caller's to order.
    """

    def __init__(self, project: Git, root: Path, locks: Locks) -> None:
        """Take the project, the directory that holds every worktree, and the host's locks."""
        self._project = project
        self._root = root
        self._locks = locks
        self._name = f"worktrees.{path_key(project.directory)}"

    def place(self, number: str, name: str = "") -> Path:
        """The path of a requirement's worktree, or of the directory that holds them all.

        Raises: RefusedInput if the names lead out of it: what lies there gets deleted.
        """
        home = self._root / number
        path = home / name if name else home
        if home.parent != self._root or ".." in path.parts or not number:
            raise RefusedInput(f"{number}/{name} is no place for a worktree.")
        return path

    def below(self, number: str) -> tuple[Path, ...]:
        """Whatever lies in a requirement's directory."""
        return tuple(sorted(self.place(number).glob("*")))

    async def find(self, path: Path) -> Worktree | None:
        """The registered worktree of that path, finished or not, there or gone."""
        common = await self._project.run("rev-parse", "--git-common-dir")
        entries = self._project.directory / common.line / "worktrees"
        return next((one for one in registered(entries) if one.path == path), None)

    async def add(self, path: Path, *what: str) -> Worktree:
        """Check out `what` (arguments of `git worktree add`, revision last) in a new worktree."""
        await self.discard(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        *options, revision = what
        async with self._locks.hold(self._name):
            await self._project.run(
                "worktree", "add", "--quiet", "--force", *options, str(path), revision
            )
        found = await self.find(path)
        if found is None:
            raise GitFailed(f"git worktree add left no worktree at {path}.")
        return found

    async def discard(self, path: Path) -> None:
        """Remove the worktree and its registration, whatever state they are in.

        Directory first: git refuses one with a damaged `.git`, but not one that is gone.
        `git worktree prune` would do for ours, and take the user's on a disk that is not mounted.
        """
        try:
            await asyncio.to_thread(remove_tree, path)
        except OSError as error:
            raise GitFailed(f"{path} cannot be removed: {error}") from error
        async with self._locks.hold(self._name):
            if await self.find(path):
                await self._project.run("worktree", "remove", "--force", "--force", str(path))


def registered(entries: Path) -> Iterator[Worktree]:
    """The worktrees in git's list of them; one that is removed meanwhile is left out."""
    for entry in entries.glob("*/gitdir"):
        try:
            text = entry.read_text(errors="surrogateescape")
        except FileNotFoundError:
            continue
        file = Path(os.path.normpath(entry.parent / text.strip()))
        if file.name == ".git":
            yield Worktree(file.parent, entry.parent.resolve())


def remove_tree(path: Path) -> None:
    """Remove a file, a link or a folder, read-only ones included. Raises: OSError."""
    try:
        _remove(path)
    except PermissionError:
        # Package managers write read-only caches.
        for directory, _, _ in os.walk(path, onerror=None):
            os.chmod(directory, os.stat(directory).st_mode | stat.S_IRWXU)
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
