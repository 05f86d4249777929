"""How a supervisor lets its run stand still, and how long that took in all.

Standard library only, and few modules: it is loaded with every agent.
"""

import os
import signal
import time
from collections.abc import Callable

from adapters.runs.records import suspensions

LOOK_SECONDS = 1.0
"""Between two looks at the order while the run stands still: the signal to look may be lost."""

_SHORT_SECONDS = 0.02


class Standstill:
    """Stops every process of a run, and continues them, as the run directory says."""

    def __init__(self, directory: str, living: Callable[[], set[int]]) -> None:
        self._directory = directory
        self._living = living
        self._stopped: set[int] = set()
        self._is_whole = False
        self._since: float | None = None
        self._seconds = 0.0

    @property
    def is_ordered(self) -> bool:
        """Whether the run has to stand still."""
        return len(suspensions(self._directory)) % 2 == 1

    @property
    def seconds(self) -> float:
        """How long the run has stood still: so much later it is due."""
        standing = time.monotonic() - self._since if self._since is not None else 0.0
        return self._seconds + standing

    def heed(self) -> float | None:
        """Do as the directory says; after how many seconds to look again, None if it goes on."""
        if not self.is_ordered:
            self._go_on()
            return None
        if self._since is None:
            self._since = time.monotonic()
        if not self._is_whole:
            self._stop()
        return LOOK_SECONDS if self._is_whole else _SHORT_SECONDS

    def _stop(self) -> None:
        """Stop who still moves; whole when there is nobody: what stands still starts nobody."""
        moving = self._living() - self._stopped
        for pid in sorted(moving):
            _send(pid, signal.SIGSTOP)
        self._stopped |= moving
        self._is_whole = not moving

    def _go_on(self) -> None:
        if self._since is None:
            return
        for pid in self._stopped & self._living():
            _send(pid, signal.SIGCONT)
        self._seconds, self._since = self.seconds, None
        self._stopped, self._is_whole = set(), False


def _send(pid: int, number: signal.Signals) -> None:
    """Signal a process of the run; one that became somebody else's cannot be stopped by us."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return
