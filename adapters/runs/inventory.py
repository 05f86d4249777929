"""What lies in a state directory's folder of run records, found without opening what has ended.

A host keeps thousands of old runs: a look at all of them is one scan of folders.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from adapters.processes import recorded_process
from adapters.runs import records
from adapters.runs.directory import RECORDS, RunDirectory


def run_folders(home: Path, number: str = "") -> Iterator[Path]:
    """The records of every run, or of every run of a requirement; one that vanishes is left out.

    Shape: `home`/run-records/number/workflow run/stage-attempt, in no order.
    """
    numbers = [home / RECORDS / number] if number else folders(home / RECORDS)
    for requirement in numbers:
        for execution in folders(requirement):
            yield from folders(execution)


def unended_runs(home: Path, number: str = "") -> Iterator[RunDirectory]:
    """Every run that was ordered and has no recorded end: living, about to live, or lost."""
    for path in run_folders(home, number):
        if not os.path.exists(path / records.EXIT):
            run = RunDirectory.at(path)
            if run is not None:
                yield run


def has_unended(home: Path, number: str) -> bool:
    """Whether a requirement has a run without an end: nothing of it may be touched."""
    return any(True for _ in unended_runs(home, number))


def has_agents(home: Path) -> bool:
    """Whether an agent is at work: supervised, and not suspended."""
    return any(is_supervised(run) and not run.is_suspended for run in unended_runs(home))


def working_directories(home: Path) -> frozenset[Path]:
    """Where agents are at work, or may be found at work: the directories of unended runs."""
    orders = (run.order() for run in unended_runs(home))
    return frozenset(Path(order.directory) for order in orders if order)


def is_supervised(run: RunDirectory) -> bool:
    """Whether a supervisor holds the run, here or in another process namespace.

    The recorded identity is asked first: trying the lock would stand in a starter's way.
    """
    return _has_living_supervisor(run) or _is_locked(run)


def requirement_of(run_id: str) -> str:
    """The number of the requirement that a run belongs to."""
    return run_id.partition("/")[0]


def folders(path: Path) -> list[Path]:
    """The folders in a folder, which may be gone."""
    try:
        with os.scandir(path) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _has_living_supervisor(run: RunDirectory) -> bool:
    stat = recorded_process(run.identity(), "supervisor")
    return stat is not None and stat.is_living


def _is_locked(run: RunDirectory) -> bool:
    with run.locked() as lock:
        return lock is None
