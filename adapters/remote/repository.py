"""A commit's way to another machine and back: bundles, a clone there, and the clone here.

On an agent host the clone is made and taken over as on the orchestrator's own. What comes back is
laid into the clone here as if its agent had committed it there: the take-over judges it as ever.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.builds.processes import BuildProcesses
from adapters.git.agent_files import remove_tree
from adapters.git.clone import STAGE, Clone, Clones, checked_out
from adapters.git.command import Git
from adapters.git.store import STORES, Store
from adapters.git.takeover import take_over
from adapters.locks import Locks
from adapters.remote.messages import WorkItem
from pipeline.errors import ProjectRefused
from pipeline.numbers import stage_branch

_BASE, _WORK, _LEFT = "refs/heads/base", "refs/heads/work", "refs/heads/left"
_STORE = "remote.git"
"""The store of an agent host: of whatever projects it is sent commits."""
_SHA1_LENGTH = 40
_FETCH = ("fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules")


# --- here -----------------------------------------------------------------------------------------


def clone_here(home: Path, directory: Path) -> Clone:
    """The clone that was made for a run. Raises: ProjectRefused if it is gone."""
    found = checked_out(home, directory, Locks(home / "locks"))
    if found is None:
        raise ProjectRefused(f"{directory} is no clone of ours any more.")
    return found[1]


async def write_base(clone: Clone, bundle: Path) -> str:
    """Bundle the commit that is checked out in a clone, with its history; returns the commit.

    Raises: ProjectRefused for a project whose history is cut off.
    """
    if (clone.store.path / "shallow").exists():
        raise ProjectRefused(
            "The project's history is cut off (a shallow clone), and cannot be sent to another "
            "machine. Run `git fetch --unshallow` in PROJECT_ROOT, then retry."
        )
    await _write_bundle(clone.store, {_BASE: clone.commit}, bundle)
    return clone.commit


async def lay_into(clone: Clone, bundle: Path) -> None:
    """Lay what an agent has made elsewhere into the clone; a repeat gives the same.

    Its branches elsewhere come as branches, so that the take-over finds them. Raises: GitFailed.
    """
    git, index = Git.ours(clone.git_dir), clone.git_dir / "index"
    arrived = "refs/agog/arrived"
    await git.run(*_FETCH, str(bundle), f"+{_WORK}*:{arrived}*", f"+{_LEFT}/*:{_LEFT}/*")
    commit = await git.commit_of(arrived)
    if commit is None:  # files and commits are where they were, and only branches are new
        return
    await asyncio.to_thread(index.with_suffix(".lock").unlink, missing_ok=True)
    await git.on(clone.path, index).run("read-tree", "-u", "--reset", commit)
    await git.run("update-ref", "HEAD", commit)
    await git.run("update-ref", "-d", arrived)


# --- there ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TakenWork:
    """What an agent has made; without a bundle it has changed nothing."""

    has_bundle: bool
    remarks: tuple[str, ...] = ()


class HostRepository:
    """The clones of an agent host, and the store that they borrow from."""

    def __init__(self, home: Path) -> None:
        self._store = Store(home / STORES / _STORE, Path(os.devnull), Locks(home / "locks"), {})
        self._clones = Clones(home, self._store)
        self._processes = BuildProcesses(home)

    def place(self, item: WorkItem) -> Path:
        """Where the item's clone is, or will be."""
        return self._clone(item).path

    async def check_out(self, item: WorkItem, bundle: Path) -> None:
        """A new clone at the item's commit: no agent has been in it yet. Raises: GitFailed."""
        await self._store.make_empty()
        await self._store.git.run(*_FETCH, str(bundle), f"+{_BASE}:{_ref(item)}/base")
        clone = self._clone(item)
        await asyncio.to_thread(self._clones.make_place, item.req_number)
        await self._processes.end(clone.path)  # a `prepare` that was killed with its host
        branch = stage_branch(item.req_number, item.stage, item.attempt)
        await clone.make(item.commit, branch=branch, author=item.agent.name.capitalize())

    async def take(self, item: WorkItem, bundle: Path) -> TakenWork:
        """Commit what the agent has left, keep it under refs of the item, and bundle what is new.

        Raises: GitFailed.
        """
        message = f"{item.stage}\n\nBy {item.agent.name}, for {item.req_number}\n"
        taken = await take_over(self._clone(item), item.commit, message)
        tips = {f"{_LEFT}/{n}": tip for n, tip in enumerate(taken.left.values())}
        refs = {_WORK: taken.commit, **tips}
        for ref, commit in refs.items():
            kept = ref.removeprefix("refs/heads/")
            await self._store.git.run("update-ref", f"{_ref(item)}/{kept}", commit)
        remarks = (*taken.remarks, *(f"Stays in a submodule there: {each}" for each in taken.below))
        if taken.refusal:
            remarks += (taken.refusal,)
        if set(refs.values()) == {item.commit}:
            return TakenWork(False, remarks)
        await _write_bundle(self._store, refs, bundle, item.commit)
        return TakenWork(True, remarks)

    async def discard(self, item: WorkItem) -> None:
        """Remove the item's clone; what was taken stays under its refs. Raises: GitFailed."""
        clone = self._clone(item)
        await clone.discard()
        for place in (clone.path.parent, clone.private.parent):
            if place.is_dir() and not any(place.iterdir()):
                await asyncio.to_thread(remove_tree, place)

    def _clone(self, item: WorkItem) -> Clone:
        return self._clones.at(item.req_number, f"{STAGE}-{item.item}")


def _ref(item: WorkItem) -> str:
    return f"refs/agog/remote/{item.item}"


async def _write_bundle(
    store: Store, refs: Mapping[str, str], bundle: Path, known: str = ""
) -> None:
    """Bundle commits of a store under those names, without what `known` holds."""
    async with _borrowing(store, len(next(iter(refs.values())))) as git:
        for ref, commit in refs.items():
            await git.run("update-ref", ref, commit)
        # What holds nothing new cannot be in a bundle that leaves out what is known.
        new = {ref: commit for ref, commit in refs.items() if commit != known}
        is_whole = not known or any(
            [await store.is_ancestor(commit, known) for commit in new.values()]
        )
        without = () if is_whole else (f"^{known}",)
        await git.run("bundle", "create", "--quiet", str(bundle), *new, *without)


@asynccontextmanager
async def _borrowing(store: Store, length: int) -> AsyncIterator[Git]:
    """A repository for names alone: it borrows the store's objects."""
    with TemporaryDirectory(prefix="merge-", dir=store.path) as scratch:
        git_dir = Path(scratch)
        algorithm = "sha1" if length == _SHA1_LENGTH else "sha256"
        git = Git.ours(git_dir)
        await git.run(
            "init", "--quiet", "--bare", "--template=", f"--object-format={algorithm}",
            "--initial-branch=none",
        )  # fmt: skip
        alternates = git_dir / "objects" / "info" / "alternates"
        await asyncio.to_thread(alternates.parent.mkdir, parents=True, exist_ok=True)
        await asyncio.to_thread(alternates.write_bytes, bytes(store.path / "objects") + b"\n")
        yield git
