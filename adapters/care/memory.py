"""The memory of a host: its slots are halved while it is short, and given back when it is not.

Agents mostly wait for a model, so busy processors are no reason to start fewer of them.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from adapters.care.care import UNSEEN
from adapters.readiness import MIB
from adapters.runs.slots import SlotLimit
from pipeline.model import Alert, AlertKind

PRESSURE = Path("/proc/pressure/memory")
"""Pressure stall information of Linux: how long processes wait for memory."""

MOST_STALLED = 10.0
"""Per cent of the last ten seconds in which some process waited for memory: 0 where there is
enough; at ten, pages are dropped and read again instead of used."""
LEAST_AVAILABLE_SHARE = 0.05
"""Of the memory, where the system tells no pressure: below this the kernel drops caches that it is
about to read again."""
LEAST_AVAILABLE_BYTES = 512 * MIB
"""One more agent with its tools takes about this much; whom the kernel then kills is its choice."""
CALM_SHARE = 0.5
"""Of a bound: what memory must stay within before slots are given back; else they would swing."""
CALM_SECONDS = 30.0
"""How long it must be calm: with the loop that looks, slots are back within a minute."""
STEP_SECONDS = 20.0
"""Between two halvings: agents above the limit end by themselves, so a step needs time to show."""


@dataclass(frozen=True)
class Memory:
    """A host's memory; `stalled` in per cent, None where the system does not tell it."""

    available_bytes: int
    total_bytes: int
    stalled: float | None = None

    @property
    def is_short(self) -> bool:
        """Whether no further agent should start."""
        if self.stalled is not None:
            return self.stalled > MOST_STALLED
        return self.available_bytes < self._least

    @property
    def is_calm(self) -> bool:
        """Whether it is so far within the bounds that more agents may start."""
        if self.stalled is not None:
            return self.stalled <= CALM_SHARE * MOST_STALLED
        # On a small host twice the bound may be more than there is: half of the rest will do.
        wanted = min(self._least / CALM_SHARE, (self._least + self.total_bytes) / 2)
        return self.available_bytes >= wanted

    @property
    def told(self) -> str:
        """The numbers, in a sentence."""
        said = f"{self.available_bytes // MIB} of {self.total_bytes // MIB} MiB are available"
        if self.stalled is None:
            return f"{said}."
        return f"{said}; processes waited for memory {self.stalled:g} % of the last 10 s."

    @property
    def _least(self) -> float:
        return max(LEAST_AVAILABLE_SHARE * self.total_bytes, LEAST_AVAILABLE_BYTES)


def measure(pressure: Path = PRESSURE) -> Memory:
    """The memory of this host now."""
    memory = psutil.virtual_memory()
    return Memory(memory.available, memory.total, _stalled(pressure))


def _stalled(pressure: Path) -> float | None:
    """`some avg10`; None also where nothing has ever waited: some sandboxes do not count."""
    try:
        some = pressure.read_text(encoding="ascii").splitlines()[0]
        fields = dict(each.split("=") for each in some.split()[1:])
        return float(fields["avg10"]) if float(fields["total"]) else None
    except (OSError, LookupError, ValueError):
        return None


class MemoryCare:
    """Treats `HOST_OVERLOADED`; `clock` counts seconds."""

    kinds = frozenset({AlertKind.HOST_OVERLOADED})
    prefix = ""
    blind = Alert(AlertKind.HOST_OVERLOADED, "host", UNSEEN)

    def __init__(
        self,
        host: str,
        slots: SlotLimit,
        measuring: Callable[[], Memory] = measure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._slots = slots
        self._measure = measuring
        self._clock = clock
        self._lowered_at: float | None = None
        self._calm_since: float | None = None

    async def look(self) -> Sequence[Alert]:
        """Whether memory is short."""
        memory = await asyncio.to_thread(self._measure)
        found = Alert(AlertKind.HOST_OVERLOADED, "host", self._host, memory.told)
        return (found,) if memory.is_short else ()

    async def act(self, alert: Alert) -> str:
        """Halve the host's slots; a repeat waits for the first step to show."""
        return await asyncio.to_thread(self._lower)

    async def relax(self) -> str:
        """Give the slots back once memory has been calm for a while; what was done, if anything.

        To be called every few seconds.
        """
        return await asyncio.to_thread(self._restore)

    def _lower(self) -> str:
        memory, now = self._measure(), self._slots.current()
        if not memory.is_short:
            return f"It is over: {memory.told}"
        if self._lowered_at is not None and self._clock() - self._lowered_at < STEP_SECONDS:
            return f"The host's slots were lowered to {now} just now: not lowered again yet."
        self._slots.lower(now // 2, f"memory is short: {memory.told}")
        self._lowered_at = self._clock()
        if (after := self._slots.current()) == now:
            return f"The host has only {now} slots: not lowered. {memory.told}"
        return f"The host's slots were lowered from {now} to {after}."

    def _restore(self) -> str:
        if self._slots.lowered() is None or not self._measure().is_calm:
            self._calm_since = None
            return ""
        if self._calm_since is None:
            self._calm_since = self._clock()
        if self._clock() - self._calm_since < CALM_SECONDS:
            return ""
        before = self._slots.current()
        self._slots.restore()
        return f"The host's slots were raised from {before} to {self._slots.current()}."
