"""Who lives, stands still and waits for a slot on a host, told from its files alone.

No lock is taken: a start must not fail because somebody is looking.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from adapters.runs import records
from adapters.runs.directory import RECORDS, RUNS, RunDirectory


@dataclass(frozen=True)
class Census:
    """Runs without an end. One that a crash has ended counts until its worker has seen it."""

    living: int
    suspended: int
    waiting: int


def take_census(home: Path) -> Census:
    """Count the runs of a state directory. May block."""
    paths = home.glob(f"{RECORDS}/*/*/*")
    directories = (RunDirectory(home.joinpath(RUNS, *path.parts[-3:]), "") for path in paths)
    counted = Counter(_standing(run) for run in directories if not run.has(records.EXIT))
    return Census(counted["living"], counted["suspended"], counted["waiting"])


def _standing(run: RunDirectory) -> str:
    if not run.has(records.ORDER):
        return "waiting" if run.has(records.QUEUED) else ""
    return "suspended" if run.is_suspended else "living"
