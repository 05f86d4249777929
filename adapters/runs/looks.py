"""What a look at a run can show, and what every kind of run can do. Methods may block."""

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from adapters.runs.directory import RunDirectory

Start = Callable[[], bool]
"""Starts a run; False if somebody else was faster or it may not be started any more."""


@dataclass(frozen=True)
class Fresh:
    """Nothing was started, and nothing is about to be."""


@dataclass(frozen=True)
class Living:
    """It runs: until the process of that id ends, or for that long."""

    process: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Standing:
    """It stands still, or would have to if it were started.

    `may_go_on` says that the order is lifted, so that only a slot is missing.
    """

    may_go_on: bool


@dataclass(frozen=True)
class Ended:
    """Its end is recorded."""


Look = Fresh | Living | Ended


class RunKind(Protocol):
    """How runs of one kind are found and ended."""

    def look(self, run: RunDirectory) -> Look:
        """Where the run stands; what a crash left half done is settled on the way."""

    def try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        """Ask the run to end; whether nothing of it is left and its end is recorded."""
