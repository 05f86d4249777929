"""Orders to suspend an execution, and how they reach each of its runs.

The order is a file named after the execution, so that it also holds for runs that are yet to start.
Each run has a file with one line per change: it is suspended after an odd number of lines. Its
supervisor follows that file, and a signal tells it to look.
"""

import fcntl
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from adapters.runs import records
from adapters.runs.directory import RUNS, SAFE_PART, RunDirectory
from adapters.runs.kinds import signal_supervisor
from pipeline.errors import RefusedInput

ORDERS = "suspended"
"""Folder of the state directory that holds the orders: number / workflow run."""

_KEY_PARTS = 2


class Suspensions:
    """The orders of one state directory. Every method may block."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def order(self, key: str) -> None:
        """Suspend the execution `REQ/workflow run`. Raises: RefusedInput for a bad key."""
        path = self._path(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch()

    def withdraw(self, key: str) -> None:
        """Let the execution continue: each of its runs resumes once it has a slot."""
        self._path(key).unlink(missing_ok=True)

    def is_ordered(self, run: RunDirectory) -> bool:
        """Whether the run's execution is ordered to be suspended."""
        execution = run.path.parent.relative_to(self._home / RUNS)
        return (self._home / ORDERS / execution).exists()

    def carry_out(self, run: RunDirectory) -> bool:
        """Suspend this living run if that is ordered; whether the run is suspended."""
        if self.is_ordered(run):
            with _locked(run) as file:
                if not run.is_suspended:
                    _note_change(file)
            signal_supervisor(run, signal.SIGUSR1)
        return run.is_suspended

    def resume(self, run: RunDirectory) -> bool:
        """Resume a living run unless it is ordered to be suspended; whether it runs now."""
        with _locked(run) as file:
            # Under the lock: an order that was given before its change is noted must not be undone.
            if self.is_ordered(run) or run.has(records.EXIT):
                return False
            if run.is_suspended:
                _note_change(file)
        signal_supervisor(run, signal.SIGUSR1)
        return True

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if len(parts) != _KEY_PARTS or not all(map(SAFE_PART.fullmatch, parts)):
            raise RefusedInput(f"{key!r} names no execution: REQ/workflow run.")
        return self._home.joinpath(ORDERS, *parts)


@contextmanager
def _locked(run: RunDirectory) -> Iterator[IO[str]]:
    """The run's file of changes, for one thread at a time."""
    with run.file(records.SUSPENSIONS).open("a", encoding="ascii") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _note_change(file: IO[str]) -> None:
    file.write(f"{records.now()}\n")
    file.flush()
