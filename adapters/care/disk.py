"""The disk of a host: what ended requirements have left on it, and its removal when room is short.

Refs and branches of the project stay, and so does everything of a requirement that is open, unknown
to the database, or has a run without an end.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from adapters.care.care import UNSEEN
from adapters.git.agent_files import remove_tree
from adapters.git.clone import CLONES
from adapters.readiness import MIB, disk_problem, free_bytes
from adapters.runs.directory import RECORDS, RUNS, RunDirectory
from adapters.runs.inventory import folders, has_unended, run_folders
from pipeline.errors import PipelineError, TransientError
from pipeline.model import DISK, Alert, AlertKind
from pipeline.ports import Workspaces

KEPT_LOGS = timedelta(hours=1)
"""How long after its end a requirement's runs stay: its people may be reading `logs`."""


class Requirements(Protocol):
    """What the SDLC database knows about the end of requirements."""

    async def ended(self, numbers: Sequence[str]) -> Mapping[str, datetime]:
        """When those of the numbers ended that have; nobody works on them any more.

        Raises: DependencyUnavailable if the database cannot be asked: nothing is known then.
        """


class LeftoverKind(StrEnum):
    """What is removed, in this order: a clone's work is in its refs, a log is nowhere else."""

    CLONES = "clones"
    RUNS = "runs"


@dataclass(frozen=True)
class Leftover:
    """One folder of an ended requirement."""

    kind: LeftoverKind
    number: str
    path: Path
    ended_at: datetime

    def size(self) -> int:
        """Bytes that it takes on the disk now. Blocks: a clone may hold a million files."""
        return _size(self.path)


@dataclass(frozen=True)
class Collected:
    """What was removed, its bytes, and why the rest of it was not."""

    removed: tuple[Leftover, ...]
    freed: int
    refused: tuple[str, ...]


class LeftoverCollector:
    """Finds and removes clones and run directories of ended requirements."""

    def __init__(
        self,
        home: Path,
        requirements: Requirements,
        workspaces: Workspaces | None,
        kept_logs: timedelta = KEPT_LOGS,
    ) -> None:
        """Take the state directory; without a project (`workspaces` None) clones stay."""
        self._home = home.absolute()
        self._requirements = requirements
        self._workspaces = workspaces
        self._kept_logs = kept_logs

    async def plan(self) -> Sequence[Leftover]:
        """What would be removed, clones before runs, the longest ended first.

        Raises: DependencyUnavailable if the database cannot be asked.
        """
        numbers = await asyncio.to_thread(self._numbers)
        ended = await self._requirements.ended(numbers)
        return await asyncio.to_thread(self._leftovers, ended)

    async def collect(
        self, plan: Sequence[Leftover], enough: Callable[[], bool] = lambda: False
    ) -> Collected:
        """Remove what was planned, in that order, until it is `enough`; what lives is left out."""
        removed, freed, refused = [], 0, []
        for leftover in plan:
            if await asyncio.to_thread(enough):
                break
            size = await asyncio.to_thread(leftover.size)
            try:
                await self._remove(leftover)
            except (PipelineError, OSError) as error:
                refused.append(f"{leftover.path}: {error}")
            else:
                removed.append(leftover)
                freed += size
        return Collected(tuple(removed), freed, tuple(refused))

    async def _remove(self, leftover: Leftover) -> None:
        if await asyncio.to_thread(has_unended, self._home, leftover.number):
            raise TransientError(f"{leftover.number} has a run without an end")
        if leftover.kind is LeftoverKind.RUNS:
            await asyncio.to_thread(_remove_runs, self._home, leftover)
        elif self._workspaces is not None:
            # Keeps what no ref holds yet, and tells git.
            await self._workspaces.release(leftover.number)

    def _numbers(self) -> Sequence[str]:
        roots = (self._home / CLONES, self._home / RECORDS)
        return sorted({folder.name for root in roots for folder in folders(root)})

    def _leftovers(self, ended: Mapping[str, datetime]) -> Sequence[Leftover]:
        oldest_first = sorted(ended.items(), key=lambda item: (item[1], item[0]))
        quiet = [one for one in oldest_first if not has_unended(self._home, one[0])]
        unread = datetime.now(UTC) - self._kept_logs
        trees = quiet if self._workspaces is not None else []
        return (
            *_found(LeftoverKind.CLONES, self._home / CLONES, trees),
            *_found(LeftoverKind.RUNS, self._home / RECORDS, [o for o in quiet if o[1] <= unread]),
        )


def _found(
    kind: LeftoverKind, root: Path, ended: Sequence[tuple[str, datetime]]
) -> Iterator[Leftover]:
    for number, ended_at in ended:
        path = root / number
        if path.is_dir():
            yield Leftover(kind, number, path, ended_at)


def _remove_runs(home: Path, leftover: Leftover) -> None:
    for path in run_folders(home, leftover.number):
        run = RunDirectory(home.joinpath(RUNS, *path.parts[-3:]), "")
        # Under its lock, so that nobody starts the run meanwhile.
        with run.locked() as lock:
            if lock is None:
                raise TransientError(f"{path} is held by a supervisor")
            remove_tree(run.path)
            remove_tree(path)
    remove_tree(home / RUNS / leftover.number)
    remove_tree(leftover.path)


def _size(path: Path) -> int:
    """Bytes on the disk below a folder; what vanishes meanwhile is not counted."""
    total = 0
    for directory, _, names in os.walk(path):
        for name in (".", *names):
            try:
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
            except FileNotFoundError:
                continue
    return total


COLLECTING_SECONDS = 60.0
"""How long one treatment removes; a disk that is still low is remediated again."""

_ROOM = 2
"""Room is made for this many times the bound: at the bound itself the next commit undercuts it."""


class DiskCare:
    """Sees to `DISK_LOW`."""

    kinds = frozenset({AlertKind.DISK_LOW})
    prefix = ""
    blind = Alert(AlertKind.DISK_LOW, DISK, UNSEEN)

    def __init__(
        self,
        home: Path,
        host: str,
        collector: LeftoverCollector,
        min_free_bytes: int,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._home = home
        self._host = host
        self._collector = collector
        self._least = min_free_bytes
        self._free = free

    async def look(self) -> Sequence[Alert]:
        """Low below the bound, or not to be written to. Raises: OSError if it does not answer."""
        detail = await asyncio.to_thread(self._problem)
        return (Alert(AlertKind.DISK_LOW, DISK, self._host, detail),) if detail else ()

    async def act(self, alert: Alert) -> str:
        """Remove what ended requirements left, until there is room. Nothing else is touched.

        Raises: DependencyUnavailable if nobody knows what has ended, TransientError if the disk
        is as low as before.
        """
        until = time.monotonic() + COLLECTING_SECONDS
        plan = await self._collector.plan()
        collected = await self._collector.collect(plan, enough=lambda: self._is_enough(until))
        free = await asyncio.to_thread(self._free, self._home)
        answer = f"{_told(collected)} {free // MIB} MiB are free now."
        problem = await asyncio.to_thread(self._problem)
        if problem and not collected.removed:
            raise TransientError(answer)
        return answer

    def _is_enough(self, until: float) -> bool:
        return self._free(self._home) >= _ROOM * self._least or time.monotonic() > until

    def _problem(self) -> str:
        return disk_problem(self._home, self._least, self._free)


def _told(collected: Collected) -> str:
    names = ", ".join(dict.fromkeys(one.number for one in collected.removed)) or "nothing"
    kept = "".join(f" Kept: {refusal}." for refusal in collected.refused)
    return f"Removed {collected.freed // MIB} MiB left by ended requirements ({names}).{kept}"
