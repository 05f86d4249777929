"""Orphans of a host: runs that nobody waits for, processes of ended runs, clones."""

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from adapters.care.care import UNSEEN
from adapters.care.disk import Requirements
from adapters.git.clone import CLONES
from adapters.processes import all_processes, end_processes, variable_of
from adapters.runs import records
from adapters.runs.directory import RUNS, RunDirectory
from adapters.runs.inventory import (
    folders,
    has_unended,
    is_supervised,
    requirement_of,
    unended_runs,
)
from adapters.runs.kinds import RUN_DIRECTORY_VARIABLE, SIMULATED, Living, SupervisedRuns, leftovers
from pipeline.errors import TransientError
from pipeline.model import Alert, AlertKind
from pipeline.ports import AgentRuns, Workspaces

ENDING = timedelta(minutes=1)
"""For so long after the end of its requirement a run is no orphan: it may be ending."""
LEAVING_SECONDS = 10.0
"""For so long after a run's recorded end its supervisor may still exit."""
END_SECONDS = 10.0
"""Until processes must be gone: three times the grace that they get before SIGKILL."""
RELEASING = timedelta(minutes=10)
"""For so long after the end of its requirement a clone is no orphan: removal takes time."""


class Sort(Protocol):
    """Finds and removes orphans of one sort; `name` stands before each one's own name."""

    name: str

    async def look(self) -> Mapping[str, str]:
        """Each orphan's name, with what makes it one. Raises: PipelineError, OSError."""

    async def end(self, name: str) -> str:
        """End or remove it if it still is an orphan; what was done. Raises: PipelineError."""


class OrphanCare:
    """Sees to the `ORPHAN`s of one sort; their subject is the sort, a colon, and their name."""

    kinds = frozenset({AlertKind.ORPHAN})

    def __init__(self, sort: Sort) -> None:
        self.prefix = f"{sort.name}:"
        self.blind = Alert(AlertKind.ORPHAN, "orphan", f"{self.prefix}{UNSEEN}")
        self._sort = sort

    async def look(self) -> Sequence[Alert]:
        """Every orphan of the sort. Raises: as the sort does."""
        return tuple(
            replace(self.blind, subject=f"{self.prefix}{name}", detail=detail)
            for name, detail in (await self._sort.look()).items()
        )

    async def act(self, alert: Alert) -> str:
        """End or remove the orphan. Raises: as the sort does."""
        return await self._sort.end(alert.subject.removeprefix(self.prefix))


class OrphanedRuns:
    """Runs without an end whose requirement has ended, or whose supervisor is dead."""

    name = "run"

    def __init__(self, home: Path, requirements: Requirements, runs: AgentRuns) -> None:
        self._home = home.absolute()
        self._requirements = requirements
        self._runs = runs
        self._supervised = SupervisedRuns()

    async def look(self) -> Mapping[str, str]:
        """Their run ids."""
        runs = await asyncio.to_thread(lambda: tuple(unended_runs(self._home)))
        over = await _over(self._requirements, [requirement_of(run.run_id) for run in runs])
        lost = await asyncio.to_thread(lambda: {run.run_id for run in runs if _is_lost(run)})
        return {
            run.run_id: "its requirement has ended" if is_over else "its supervisor is dead"
            for run in runs
            if (is_over := requirement_of(run.run_id) in over) or run.run_id in lost
        }

    async def end(self, name: str) -> str:
        """End the run of an ended requirement; record as lost what an open one may try again."""
        run = RunDirectory.of(self._home, name)
        if await _over(self._requirements, [requirement_of(name)]):
            await self._runs.end(name)
            return f"Ended the run {name}: its requirement has ended."
        if not await asyncio.to_thread(_is_lost, run):
            return f"{name} is no orphan any more."
        seen = await asyncio.to_thread(self._supervised.look, run)
        if isinstance(seen, Living):
            return f"{name} is supervised after all."
        return f"Ended what the dead supervisor of {name} had left, and recorded the run as lost."


class OrphanedProcesses:
    """Processes that name a run as theirs that has ended, or whose records are gone."""

    name = "processes"

    def __init__(self, home: Path, requirements: Requirements) -> None:
        self._root = home.absolute() / RUNS
        self._requirements = requirements

    async def look(self) -> Mapping[str, str]:
        """Directories of their runs, relative to the folder of runs."""
        named = await asyncio.to_thread(_named_runs, self._root)
        runs = {path: RunDirectory(self._root / path, "") for path in named}
        numbers = [path.parts[0] for path, run in runs.items() if not run.records_path.is_dir()]
        over = await _over(self._requirements, numbers)
        return {
            str(path): f"processes {', '.join(map(str, sorted(pids)))} belong to a run that is over"
            for path, pids in named.items()
            if self._is_over(path, over)
        }

    async def end(self, name: str) -> str:
        """End them, within bounds. Raises: TransientError if one is left."""
        path = Path(name)
        over = await _over(self._requirements, path.parts[:1])
        if not self._is_over(path, over):
            return f"{name} is no run that is over."
        ended = await asyncio.to_thread(_end_leftovers, RunDirectory(self._root / path, ""))
        return f"Ended {ended} processes of {name}, a run that is over."

    def _is_over(self, path: Path, ended: Mapping[str, datetime]) -> bool:
        """A run that has no records may be started again, unless its requirement has ended."""
        run = RunDirectory(self._root / path, "")
        if not run.records_path.is_dir():
            return path.parts[0] in ended
        try:
            return run.last.file(records.EXIT).stat().st_mtime < time.time() - LEAVING_SECONDS
        except FileNotFoundError:
            return False


class EndedClones:
    """Clones of requirements that have ended."""

    name = "clones"

    def __init__(self, home: Path, requirements: Requirements, workspaces: Workspaces) -> None:
        self._home = home.absolute()
        self._requirements = requirements
        self._workspaces = workspaces

    async def look(self) -> Mapping[str, str]:
        """Numbers of the requirements."""
        below = await asyncio.to_thread(folders, self._home / CLONES)
        numbers = await self._over(sorted(folder.name for folder in below))
        return dict.fromkeys(numbers, "its requirement has ended")

    async def end(self, name: str) -> str:
        """Remove them; what no ref holds yet is kept. Raises: GitFailed, ProjectRefused."""
        if not await self._over([name]):
            return f"{name} has not ended, or has a run without an end: its clones stay."
        await self._workspaces.release(name)
        return f"Removed the clones of {name}, which has ended."

    async def _over(self, numbers: Sequence[str]) -> Sequence[str]:
        if not numbers:
            return ()
        ended = await self._requirements.ended(numbers)
        until = datetime.now(UTC) - RELEASING
        long_ago = [number for number, at in ended.items() if at < until]
        return await asyncio.to_thread(_without_runs, self._home, long_ago)


async def _over(requirements: Requirements, numbers: Sequence[str]) -> Mapping[str, datetime]:
    """Those that ended so long ago that nobody is still ending their runs."""
    if not numbers:
        return {}
    ended = await requirements.ended(sorted(set(numbers)))
    until = datetime.now(UTC) - ENDING
    return {number: at for number, at in ended.items() if at < until}


def _is_lost(run: RunDirectory) -> bool:
    record = run.order()
    if record is None or record.kind == SIMULATED or not run.has(records.STARTED):
        return False
    # In this order: a supervisor records the end, and then ends.
    return not (is_supervised(run) or run.has(records.EXIT))


def _named_runs(root: Path) -> Mapping[Path, set[int]]:
    """Living processes by the run that they name, relative to `root`."""
    named: dict[Path, set[int]] = {}
    for pid, stat in all_processes().items():
        is_other = stat.is_living and pid != os.getpid()
        directory = variable_of(pid, RUN_DIRECTORY_VARIABLE) if is_other else None
        path = Path(directory) if directory else root
        if path.parent.parent.parent == root:
            named.setdefault(path.relative_to(root), set()).add(pid)
    return named


def _end_leftovers(run: RunDirectory) -> int:
    found = leftovers(run)
    if left := end_processes(lambda: leftovers(run), END_SECONDS):
        raise TransientError(f"Processes {sorted(left)} of {run.path} cannot be ended.")
    return len(found)


def _without_runs(home: Path, numbers: Sequence[str]) -> Sequence[str]:
    return [number for number in numbers if not has_unended(home, number)]
