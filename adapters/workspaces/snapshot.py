"""What a worktree holds, as a commit: made without touching its index, its HEAD or its state.

An agent may have left a merge half done, a lock file behind, or a repository of its own inside.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.git import Git
from adapters.workspaces.worktrees import Worktree
from pipeline.errors import GitFailed

GITLINK = "160000"
CONFLICT_MARKER = b"<<<<<<< "


@dataclass(frozen=True)
class Snapshot:
    """The commit that holds everything; `unresolved` files still carry conflict markers."""

    commit: str
    unresolved: tuple[str, ...] = ()


async def take_snapshot(worktree: Worktree, base: str, message: str) -> Snapshot:
    """Commit the worktree, ignore files respected, on its own HEAD or, unrelated, on `base`.

    Nothing uncommitted: the commit is HEAD itself.
    """
    git = worktree.git
    parent = await _parent(git, base)
    unresolved = await _unresolved(worktree)
    with TemporaryDirectory(prefix="agog-", dir=worktree.git_dir) as scratch:
        tree = await _Staging(worktree, Path(scratch)).tree(parent, base)
    if tree == (await git.run("rev-parse", f"{parent}^{{tree}}")).line:
        return Snapshot(parent, unresolved)
    made = await git.run("commit-tree", tree, "-p", parent, "-F", "-", stdin=message)
    return Snapshot(made.line, unresolved)


async def _parent(git: Git, base: str) -> str:
    """HEAD wherever the agent left it: detached, on another branch, or on none with a commit."""
    head = await git.commit_of("HEAD")
    if head and await git.succeeds("merge-base", head, base):
        return head
    return base


async def _unresolved(worktree: Worktree) -> tuple[str, ...]:
    """Files of an unfinished merge that nobody edited: committing them would hide a conflict."""
    unmerged = await worktree.git.run("diff-files", "--name-only", "--diff-filter=U", "-z")
    names = tuple(dict.fromkeys(unmerged.fields))
    return tuple(name for name in names if _has_marker(worktree.path / name))


def _has_marker(file: Path) -> bool:
    if not file.is_file():
        return False
    with file.open("rb") as lines:
        return any(line.startswith(CONFLICT_MARKER) for line in lines)


class _Staging:
    """Builds trees in index files of its own, one per repository found in the worktree."""

    def __init__(self, worktree: Worktree, scratch: Path) -> None:
        self._worktree = worktree
        self._scratch = scratch
        self._indexes = 0

    async def tree(self, parent: str, base: str) -> str:
        """The tree of the whole worktree, which started at `base` and stands at `parent`."""
        index = self._new_index()
        known = self._worktree.git_dir / "index"
        if known.exists():
            # The copy knows which files are unchanged; its time must stay: git compares with it.
            shutil.copy2(known, index)
        git = self._git(self._worktree.path, index)
        if not known.exists():
            await git.run("read-tree", parent)
        return await self._written(git, base, await _declared_submodules(git))

    async def _written(self, git: Git, base: str, submodules: frozenset[str]) -> str:
        added = await git.run("add", "--all", "--ignore-errors", ".", accept=(0, 1))
        left = (await git.run("ls-files", "--others", "--exclude-standard", "-z")).fields
        nested = tuple(name.rstrip("/") for name in left if name.endswith("/"))
        if len(nested) < len(left) or (added.code and not nested):
            raise GitFailed(f"git add in {git.directory}: {added.error.strip()[-2000:]}")
        links = await _new_gitlinks(git, base)
        for name in dict.fromkeys((*nested, *links)):
            if name not in submodules:
                await self._flatten(git, name)
        return (await git.run("write-tree")).line

    async def _flatten(self, git: Git, name: str) -> None:
        """Take a nested repository's files as files.

        Git would record its commit alone, which nobody has: the agent's work would be lost.
        A nested worktree of the project is left out: its commits are in the project already.
        """
        directory = git.directory / name
        if not directory.is_dir():
            return
        await git.run("update-index", "--force-remove", "--", name)
        if self._is_worktree_of_project(directory):
            return
        inner = self._git(directory, self._new_index())
        empty = (await inner.run("mktree")).line
        await inner.run("read-tree", "--empty")
        tree = await self._written(inner, empty, frozenset())
        if tree != empty:
            await git.run("read-tree", f"--prefix={name}/", tree)

    def _is_worktree_of_project(self, directory: Path) -> bool:
        pointer = directory / ".git"
        if not pointer.is_file():
            return False
        target = pointer.read_text(errors="surrogateescape").removeprefix("gitdir:").strip()
        return (directory / target).resolve().parent == self._worktree.git_dir.parent

    def _new_index(self) -> Path:
        self._indexes += 1
        return self._scratch / f"index-{self._indexes}"

    def _git(self, directory: Path, index: Path) -> Git:
        variables = self._worktree.git.variables
        return Git(
            directory,
            {**variables, "GIT_WORK_TREE": str(directory), "GIT_INDEX_FILE": str(index)},
        )


async def _new_gitlinks(git: Git, base: str) -> tuple[str, ...]:
    """Repositories recorded as a bare commit since `base`, by us or by the agent."""
    changed = await git.run(
        "diff-index", "--cached", "--raw", "-z", "--no-renames", "--diff-filter=AT",
        "--ignore-submodules=none", base,
    )  # fmt: skip
    entries = zip(changed.fields[::2], changed.fields[1::2], strict=True)
    return tuple(name for entry, name in entries if entry.split(" ")[1] == GITLINK)


async def _declared_submodules(git: Git) -> frozenset[str]:
    if not (git.directory / ".gitmodules").is_file():
        return frozenset()
    listed = await git.run(
        "config", "--file", ".gitmodules", "-z", "--get-regexp", r"^submodule\..*\.path$",
        accept=(0, 1),
    )  # fmt: skip
    return frozenset(entry.partition("\n")[2] for entry in listed.fields)
