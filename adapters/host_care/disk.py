"""Room on the disk of the state directory: made of what ended requirements have left."""

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from adapters.host_care.collector import Collected, LeftoverCollector
from pipeline.errors import TransientError
from pipeline.model import Symptom, SymptomKind

MIB = 1024**2

COLLECTING_SECONDS = 60.0
"""How long one treatment removes; a disk that is still low is treated again."""

_ROOM = 2
"""Room is made for this many times the bound: at the bound itself the next commit undercuts it."""


def free_bytes(home: Path) -> int:
    """Bytes that this user may still write on the disk of the state directory."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    return shutil.disk_usage(existing).free


class DiskCare:
    """Sees to `DISK_LOW`."""

    kind = SymptomKind.DISK_LOW
    component = "disk"
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
        self._free = partial(free, home)

    async def look(self) -> Sequence[Symptom]:
        """Low below the bound. Raises: OSError if the disk does not answer."""
        free = await asyncio.to_thread(self._free)
        if free >= self._least:
            return ()
        detail = f"{free // MIB} MiB are free at {self._home}, less than {self._least // MIB} MiB."
        return (Symptom(self.kind, self.component, self._host, detail),)

    async def act(self, symptom: Symptom) -> str:
        """Remove what ended requirements left, until there is room. Nothing else is touched.

        Raises: DependencyUnavailable if nobody knows what has ended, TransientError if the disk
        is as low as before.
        """
        until = time.monotonic() + COLLECTING_SECONDS
        plan = await self._collector.plan()
        collected = await self._collector.collect(plan, enough=lambda: self._is_enough(until))
        free = await asyncio.to_thread(self._free)
        answer = f"{_told(collected)} {free // MIB} MiB are free now."
        if free < self._least and not collected.removed:
            raise TransientError(answer)
        return answer

    def _is_enough(self, until: float) -> bool:
        return self._free() >= _ROOM * self._least or time.monotonic() > until


def _told(collected: Collected) -> str:
    names = ", ".join(dict.fromkeys(one.number for one in collected.removed)) or "nothing"
    kept = "".join(f" Kept: {refusal}." for refusal in collected.refused)
    return f"Removed {collected.freed // MIB} MiB left by ended requirements ({names}).{kept}"
