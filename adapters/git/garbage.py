"""Refs of ours that nobody needs any more: after a delivery, and long after a requirement's end.

A ref is removed only if a branch of the project holds its commit, or if the target holds the whole
work of its requirement as other commits: a forge may have squashed it. What was not merged, kept or
left elsewhere stays, and is named. Objects stay in any case: clones may borrow them.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.git.project import OUR_BRANCHES, Project
from adapters.git.squashed import has_arrived
from adapters.git.store import PROJECT_REFS, Names, Store, store_path
from adapters.locks import Locks

_HEADS, _OURS = f"refs/heads/{OUR_BRANCHES}", "refs/agog/"
_PROJECT = (f"--exclude={PROJECT_REFS}heads/{OUR_BRANCHES}*", f"--glob={PROJECT_REFS}heads/*")
"""The project's branches, without those that we have made in it."""


@dataclass(frozen=True)
class Garbage:
    """What can be removed of one requirement: refs of the store, branches of the user's repository.

    Each with what it stands for: one that has moved by then stays. `unmerged` are refs and branches
    that hold work which is in no branch of the project.
    """

    number: str
    refs: Mapping[str, str]
    branches: Mapping[str, str]
    unmerged: tuple[str, ...]


async def forget_merged(store: Store, number: str, commit: str) -> None:
    """Remove refs of stages and fixes whose work is in the delivered commit.

    The integration branch stays, and so does what is not in it.
    """
    names, fixes = Names(number), f"{number}-FIX-*"
    merged = await store.git.run(
        "for-each-ref", f"--merged={commit}", "--format=%(refname)", names.all[0],
        names.merged("").rstrip("/"), f"{_HEADS}{fixes}/*", f"{_OURS}{fixes}/*",
        f"{_OURS}{fixes}/merged/*",
    )  # fmt: skip
    noted = await store.git.run(
        "for-each-ref", "--format=%(refname)", names.outcome("").rstrip("/"),
        f"{_OURS}{fixes}/outcome/*",
    )  # fmt: skip
    refs = {*merged.text.splitlines(), *noted.text.splitlines()} - {names.integration}
    commands = "".join(f"delete {ref}\0\0" for ref in sorted(refs))
    await store.git.run("update-ref", "-z", "--stdin", stdin=commands)


class GarbageCollector:
    """Looks through the store of one project, and the user's repository."""

    def __init__(self, project_root: Path, home: Path) -> None:
        home = home.absolute().resolve()
        self._project = Project(project_root)
        self._exists = store_path(home, self._project.root).is_dir()
        self._store = Store.of_project(home, self._project.root, Locks(home / "locks"), {})
        self._arrived: tuple[str, ...] = ()
        """Works that a branch of the project holds as other commits."""

    async def numbers(self) -> Sequence[str]:
        """The requirements and fixes that have refs in the store."""
        return sorted({number for number, _, _, _ in await self._refs()})

    async def plan(self, numbers: Sequence[str]) -> Sequence[Garbage]:
        """What can be removed of these, which have ended; nothing is changed.

        Raises: ProjectRefused if the project is no repository any more.
        """
        if not numbers:
            return ()
        await self._project.check_repository()
        await self._store.refresh()  # what was merged since
        wanted, found = set(numbers), await self._refs()
        # A fix has arrived with the work of its requirement, which may not be asked about.
        works = [await self._squashed(number) for number in sorted({each[0] for each in found})]
        self._arrived = tuple(filter(None, works))
        return [
            await self._garbage(number, [each for each in found if each[0] == number])
            for number in sorted(wanted)
        ]

    async def remove(self, garbage: Garbage) -> None:
        """Remove what was planned. Raises: GitFailed if a ref of the store has moved since."""
        commands = "".join(f"delete {ref}\0{old}\0" for ref, old in garbage.refs.items())
        await self._store.git.run("update-ref", "-z", "--stdin", stdin=commands)
        for branch, commit in garbage.branches.items():
            if not await self._project.is_checked_out(branch):
                await self._project.git.run(
                    "update-ref", "-d", f"refs/heads/{branch}", commit, accept=(0, 1, 128)
                )

    async def _garbage(self, number: str, found: Sequence[tuple[str, str, str, str]]) -> Garbage:
        commits = {ref: name for _, ref, name, kind in found if kind == "commit"}
        texts = {ref: name for _, ref, name, kind in found if kind != "commit"}
        open_work = await self._unmerged(set(commits.values()))
        left = tuple(ref for ref, commit in commits.items() if commit in open_work)
        # Texts tell of the requirement as a whole.
        refs = {ref: old for ref, old in commits.items() if ref not in left}
        branches, kept = await self._branches(number, commits.get(Names(number).published, ""))
        return Garbage(number, refs if left else {**refs, **texts}, branches, (*left, *kept))

    async def _branches(self, number: str, commit: str) -> tuple[dict[str, str], tuple[str, ...]]:
        """Branches that a delivery has made in the user's repository and nobody has moved since."""
        if not commit:
            return {}, ()
        listed = await self._project.git.run(
            "for-each-ref", f"--points-at={commit}", "--format=%(refname:lstrip=2)",
            f"{_HEADS}{number}", f"{_HEADS}{number}-*",
        )  # fmt: skip
        names = listed.text.splitlines()
        if await self._unmerged({commit}):
            return {}, tuple(names)
        there = [name for name in names if not await self._project.is_checked_out(name)]
        return dict.fromkeys(there, commit), ()

    async def _unmerged(self, commits: set[str]) -> set[str]:
        """Those that no branch of the project holds."""
        if not commits or not await self._is_beyond(*commits):
            return set()
        return {commit for commit in commits if await self._is_beyond(commit)}

    async def _squashed(self, number: str) -> str:
        """The work of a requirement, if its target holds it as other commits; else empty."""
        names, git = Names(number), self._store.git
        work, target = await git.commit_of(names.integration), await self._target(names)
        if not work or not target or not await self._is_beyond(work):
            return ""
        return work if await has_arrived(self._store, work, target) else ""

    async def _target(self, names: Names) -> str | None:
        name = await self._store.read_blob(names.target)
        return await self._store.branch(name) if name else None

    async def _is_beyond(self, *commits: str) -> bool:
        asked = await self._store.git.run(
            "rev-list", "--max-count=1", *commits, "--not", *self._arrived, *_PROJECT
        )
        return bool(asked.line)

    async def _refs(self) -> Sequence[tuple[str, str, str, str]]:
        """Each ref of a requirement: its number, name, object, and the kind of that."""
        if not await asyncio.to_thread(lambda: self._exists):
            return ()
        listed = await self._store.git.run(
            "for-each-ref", "--format=%(refname) %(objectname) %(objecttype)", _HEADS, _OURS
        )
        lines = (line.split(" ") for line in listed.text.splitlines())
        return [
            (ref.removeprefix(_HEADS).removeprefix(_OURS).partition("/")[0], ref, name, kind)
            for ref, name, kind in lines
        ]
