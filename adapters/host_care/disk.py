"""Room on the disk of the state directory: made of what ended requirements have left."""

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters.host_care.collector import Collected, LeftoverCollector
from adapters.readiness import MIB, disk_problem, free_bytes
from pipeline.errors import TransientError
from pipeline.model import DISK, Symptom, SymptomKind

COLLECTING_SECONDS = 60.0
"""How long one treatment removes; a disk that is still low is treated again."""

_ROOM = 2
"""Room is made for this many times the bound: at the bound itself the next commit undercuts it."""


class DiskCare:
    """Sees to `DISK_LOW`."""

    kind = SymptomKind.DISK_LOW
    component = DISK
    prefix = ""

    def __init__(
        self,
        home: Path,
        host: str,
        collector: LeftoverCollector,
        min_free_bytes: int,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        """Take the state directory, the host's name and the bound; `free` measures the disk."""
        self._home = home
        self._host = host
        self._collector = collector
        self._least = min_free_bytes
        self._free = free

    async def look(self) -> Sequence[Symptom]:
        """Low below the bound, or not to be written to. Raises: OSError if it does not answer."""
        detail = await asyncio.to_thread(self._problem)
        return (Symptom(self.kind, self.component, self._host, detail),) if detail else ()

    async def act(self, symptom: Symptom) -> str:
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
