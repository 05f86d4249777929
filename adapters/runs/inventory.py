"""All runs of a state directory, found without opening the records of those that have ended.

A host keeps thousands of old runs: listing them is one scan of folders.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adapters.processes import recorded_process
from adapters.runs import records
from adapters.runs.directory import RECORDS, RUNS, RunDirectory


@dataclass(frozen=True)
class Usage:
    """Runs without a recorded end. A run that crashed counts until its worker has noticed."""

    living: int
    suspended: int
    waiting: int


def count_runs(home: Path) -> Usage:
    """Count the runs of a state directory. May block.

    No lock is taken: a start must not fail because somebody looks.
    """
    counted: Counter[str] = Counter()
    for path in run_folders(home):
        run = RunDirectory(home.joinpath(RUNS, *path.parts[-3:]), "")
        if run.has(records.EXIT):
            continue
        if run.has(records.ORDER):
            counted["suspended" if run.is_suspended else "living"] += 1
        elif run.has(records.QUEUED):
            counted["waiting"] += 1
    return Usage(counted["living"], counted["suspended"], counted["waiting"])


def run_folders(home: Path, number: str = "") -> Iterator[Path]:
    """The records of every run, or of every run of a requirement; skips a run that vanishes.

    Shape: `home`/run-records/number/workflow run/stage-attempt, in no order.
    """
    numbers = [home / RECORDS / number] if number else folders(home / RECORDS)
    for requirement in numbers:
        for execution in folders(requirement):
            yield from folders(execution)


def unended_runs(home: Path, number: str = "") -> Iterator[RunDirectory]:
    """Every run that was ordered and has no recorded end: starting, living or lost."""
    for path in run_folders(home, number):
        if not os.path.exists(path / records.EXIT):
            run = RunDirectory.at(path)
            if run is not None:
                yield run


def has_unended(home: Path, number: str) -> bool:
    """Whether a requirement has a run without an end: then nothing of it may be removed."""
    return any(True for _ in unended_runs(home, number))


def has_agents(home: Path) -> bool:
    """Whether an agent runs: supervised, and not suspended."""
    return any(is_supervised(run) and not run.is_suspended for run in unended_runs(home))


def is_supervised(run: RunDirectory) -> bool:
    """Whether a supervisor holds the run, here or in another process namespace.

    The recorded identity comes first: trying the lock could make a start fail.
    """
    stat = recorded_process(run.identity(), "supervisor")
    if stat is not None and stat.is_living:
        return True
    with run.locked() as lock:
        return lock is None


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
