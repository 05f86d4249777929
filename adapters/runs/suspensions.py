"""Orders to stand still: one per execution, carried out by each of its runs.

The order is a file of the execution's own name, so that it also holds for runs that are yet to
start. What a run makes of it is a file in its directory with one line per change: it stands still
after an odd number of lines. The supervisor follows that file, and a signal tells it to look.
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
        """Let the execution `REQ/workflow run` stand still. Raises: RefusedInput for a bad key."""
        path = self._order(key)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch()

    def lift(self, key: str) -> None:
        """Let the execution go on: its runs may, as soon as they have slots."""
        self._order(key).unlink(missing_ok=True)

    def holds(self, run: RunDirectory) -> bool:
        """Whether the run's execution has the order to stand still."""
        execution = run.path.parent.relative_to(self._home / RUNS)
        return (self._home / ORDERS / execution).exists()

    def heed(self, run: RunDirectory) -> bool:
        """Carry out an order that this living run has not; whether the run is suspended."""
        if self.holds(run):
            with _locked(run) as file:
                if not run.is_suspended:
                    _note_change(file)
            signal_supervisor(run, signal.SIGUSR1)
        return run.is_suspended

    def go_on(self, run: RunDirectory) -> bool:
        """Let a living run go on unless it has the order to stand still; whether it does."""
        with _locked(run) as file:
            # Asked under the lock: an order that is given before its change is noted is not undone.
            if self.holds(run) or run.has(records.EXIT):
                return False
            if run.is_suspended:
                _note_change(file)
        signal_supervisor(run, signal.SIGUSR1)
        return True

    def _order(self, key: str) -> Path:
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
