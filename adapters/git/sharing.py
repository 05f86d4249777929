"""What a host merges is pushed to a repository that others reach; one of them continues from there.

Each host has a folder of refs of its own there, so that one which comes back overwrites nothing of
the host that has continued its work.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.git.command import Git
from adapters.git.diff import GITLINK, changes_between
from adapters.git.store import Names, Store
from adapters.locks import Locks
from pipeline.errors import DependencyUnavailable, GitFailed, HostLost, ProjectRefused
from pipeline.lost_hosts import (
    Merged,
    Moving,
    OpenRun,
    Part,
    has_submodules,
    never_pushed,
    not_pushed,
)

log = logging.getLogger(__name__)

SECONDS = 120.0
"""Until a push or a fetch is taken to hang: the first brings the whole project."""
_HOSTS = "refs/agog-hosts"


@dataclass(frozen=True)
class Sharing:
    """The shared repository, by its address or path, as the host of that name uses it."""

    repository: str
    host: str

    def refspecs(self, names: Names, host: str) -> Sequence[tuple[str, str]]:
        """Each folder of refs of a requirement: in a store, and where that host pushes it."""
        heads, refs = names.all
        place = f"{_HOSTS}/{_escaped(host)}/{names.number}"
        return ((f"{heads}*", f"{place}/heads/*"), (f"{refs}*", f"{place}/refs/*"))


class SharedWork:
    """Pushes what a store holds of requirements, and fetches what other hosts have pushed."""

    def __init__(self, store: Store, locks: Locks, sharing: Sharing) -> None:
        self._store = store
        self._locks = locks
        self._sharing = sharing
        self._owed: set[str] = set()

    async def push(self, number: str) -> None:
        """Push all refs of a requirement, all or none; a failure is logged, and made up for later.

        The work goes on without it: a move would name what was not pushed.
        """
        names, sharing = Names(number), self._sharing
        self._owed.add(number)
        refspecs = (f"+{ours}:{there}" for ours, there in sharing.refspecs(names, sharing.host))
        try:
            async with self._locks.hold(f"share.{number}"):
                await self._git.run(
                    "push", "--quiet", "--atomic", "--no-follow-tags", "--no-signed", "--prune",
                    "--recurse-submodules=no", "--", sharing.repository, *refspecs,
                )  # fmt: skip
        except (GitFailed, ProjectRefused, DependencyUnavailable) as error:
            log.warning("[%s] Its last merge was not shared, and will be: %s", number, error)
        else:
            self._owed.discard(number)

    async def push_owed(self) -> None:
        """Push once more what could not be pushed."""
        for number in sorted(self._owed):
            await self.push(number)

    async def fetch(self, what: Moving) -> None:
        """Take over all that the lost host has pushed, if nothing is missing.

        A merge that nobody recorded is taken back: its run is repeated.

        Raises: HostLost that names what is missing, GitFailed.
        """
        for part in what.parts:
            await self._fetch(what, part)
        root = Names(what.number)
        for part in what.parts:
            if not part.base:
                continue
            names = Names(part.number)
            if await self._store.git.commit_of(names.integration) is None:
                raise HostLost(never_pushed(what, part.number))
            await self._take_back(names, part)
            await self._check(what, part, (names, root))

    async def _fetch(self, what: Moving, part: Part) -> None:
        sharing = self._sharing
        refspecs = (
            f"+{there}:{ours}" for ours, there in sharing.refspecs(Names(part.number), what.host)
        )
        await self._git.run(
            "fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--no-recurse-submodules",
            "--", sharing.repository, *refspecs,
        )  # fmt: skip

    async def _take_back(self, names: Names, part: Part) -> None:
        """Let the integration branch end at the last merge whose run was closed."""
        runs = {run.key: run for run in part.open_runs}
        while True:
            tip = await self._store.commit(names.integration)
            latest = [key for key in runs if await self._ref(names.merged(key)) == tip]
            if not latest:
                return
            key = latest[0]
            before = await self._before(names, runs.pop(key), tip)
            work = await self._store.commit(names.stage(key))
            kept = {names.integration: before, names.kept(key): work}
            if not await self._store.move_refs(names.integration, tip, kept):
                raise GitFailed(f"{names.integration} moved while it was taken over.")
            for ref in (names.merged(key), names.outcome(key)):
                await self._store.git.run("update-ref", "-d", ref)

    async def _before(self, names: Names, run: OpenRun, tip: str) -> str:
        """The tip before a run's merge: that was a commit of ours, or a fast-forward to its own."""
        if tip == await self._ref(names.stage(run.key)):
            return run.base_commit
        return (await self._store.parents(tip))[0]

    async def _check(self, what: Moving, part: Part, among: Sequence[Names]) -> None:
        missing: list[Merged] = []
        for merged in part.merged:
            if not await self._holds(merged.commit, among):
                missing.append(merged)
        if missing:
            raise HostLost(not_pushed(what, missing))
        names = among[0]
        changed = await changes_between(self._store.git, part.base, names.integration)
        modules = [each.path for each in changed if GITLINK in (each.old_mode, each.mode)]
        if modules:
            raise HostLost(has_submodules(what, modules))

    async def _holds(self, commit: str, among: Sequence[Names]) -> bool:
        if await self._store.git.commit_of(commit) is None:
            return False
        for names in among:
            if await self._store.is_ancestor(commit, await self._store.commit(names.integration)):
                return True
        return False

    async def _ref(self, ref: str) -> str | None:
        return await self._store.git.commit_of(ref)

    @property
    def _git(self) -> Git:
        """Our git on the store, over any protocol, without a hook on our side."""
        git = self._store.git.with_users_settings()
        return replace(git, reaches_others=True, seconds=SECONDS)


def of_settings(store: Store, locks: Locks, repository: str, host: str) -> SharedWork | None:
    """The shared work of a host; None without a shared repository. A path may begin with `~`."""
    if not repository:
        return None
    is_address = "://" in repository or ":" in repository.split("/")[0]
    address = repository if is_address else str(Path(repository).expanduser().absolute())
    return SharedWork(store, locks, Sharing(address, host))


def _escaped(host: str) -> str:
    """The name of a host as one part of a ref's name; two names stay two."""
    return "".join(
        mark if mark.isascii() and (mark.isalnum() or mark in "-_") else f"%{ord(mark):x}%"
        for mark in host
    )
