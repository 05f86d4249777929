"""Load of the host: its slots are lowered while it is too high, and raised when it is over."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import psutil

from adapters.host_care.parts import Slots
from pipeline.model import Symptom, SymptomKind

MIB = 1024**2

LEAST_AVAILABLE_SHARE = 0.05
"""Of the memory: below this the kernel drops caches that it is about to read again."""
LEAST_AVAILABLE_BYTES = 512 * MIB
"""One more agent with its tools takes about this much; whom the kernel then kills is its choice."""
MOST_LOAD = 4.0
"""Processes that want a processor, or wait for a disk, per processor: builds use one each, so this
is four times what the host can do; agents' deadlines go by while they wait."""
CALM_SHARE = 0.5
"""Of a bound: what it must stay within before slots are raised; else they would swing."""
STEP_SECONDS = 300.0
"""Between two steps, down or up: what a step has done shows in a load average of five minutes."""


@dataclass(frozen=True)
class HostLoad:
    """What a host has to bear: bytes of memory, the 5-minute load average, its processors."""

    available_bytes: int
    total_bytes: int
    load: float
    processors: int

    @property
    def is_too_high(self) -> bool:
        """Whether memory or processors are used up."""
        return self._exceeds(1.0)

    @property
    def is_calm(self) -> bool:
        """Whether it is so far within the bounds that more agents may start."""
        return not self._exceeds(CALM_SHARE)

    @property
    def told(self) -> str:
        """The numbers, in a sentence."""
        return (
            f"{self.available_bytes // MIB} of {self.total_bytes // MIB} MiB of memory are"
            f" available; the load of 5 minutes is {self.load:.1f} on {self.processors} processors."
        )

    def _exceeds(self, share: float) -> bool:
        least = max(LEAST_AVAILABLE_SHARE * self.total_bytes, LEAST_AVAILABLE_BYTES)
        # On a small host twice the bound may be more than there is: half of the rest will do.
        wanted = min(least / share, (least + self.total_bytes) / 2) if share < 1 else least
        return self.available_bytes < wanted or self.load / self.processors > MOST_LOAD * share


def measure() -> HostLoad:
    """The load of this host now."""
    memory = psutil.virtual_memory()
    return HostLoad(memory.available, memory.total, os.getloadavg()[1], psutil.cpu_count() or 1)


class LoadCare:
    """Sees to `HOST_OVERLOADED`."""

    kind = SymptomKind.HOST_OVERLOADED
    component = "host"
    prefix = ""

    def __init__(
        self,
        host: str,
        slots: Slots,
        measuring: Callable[[], HostLoad] = measure,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take the host's name and its slots; `clock` counts seconds."""
        self._host = host
        self._slots = slots
        self._measure = measuring
        self._clock = clock
        self._stepped_at: float | None = None

    async def look(self) -> Sequence[Symptom]:
        """Too high above the bounds."""
        load = self._measure()
        return (self._symptom(load),) if load.is_too_high else ()

    async def act(self, symptom: Symptom) -> str:
        """Lower the host's slots by half, never below one; a repeat waits for it to show."""
        load, now = self._measure(), self._slots.current()
        if not load.is_too_high:
            return f"It is over. {load.told}"
        if now <= 1:
            return f"The host starts one agent at a time already. {load.told}"
        if not self._is_settled():
            return f"The host's slots were changed to {now} just now: not lowered again yet."
        self._slots.lower(now // 2, load.told)
        self._stepped_at = self._clock()
        return f"The host's slots were lowered from {now} to {self._slots.current()}."

    async def relax(self) -> str:
        """Raise lowered slots by one step if the host is calm; what was done, empty if nothing.

        To be called at each patrol: it is no treatment of a symptom.
        """
        before = self._slots.current()
        if not (self._is_settled() and self._measure().is_calm):
            return ""
        self._slots.raise_again()
        after = self._slots.current()
        if after == before:
            return ""
        self._stepped_at = self._clock()
        return f"The host's slots were raised from {before} to {after}."

    def _symptom(self, load: HostLoad) -> Symptom:
        return Symptom(self.kind, self.component, self._host, load.told)

    def _is_settled(self) -> bool:
        """Whether the last step has had its time to show."""
        return self._stepped_at is None or self._clock() - self._stepped_at >= STEP_SECONDS
