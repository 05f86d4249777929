"""Whose turn it is to live: permits of the host, as many as its slots say at each moment."""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import monotonic

from adapters.runs.directory import RunDirectory
from adapters.runs.looks import Living, Look
from adapters.runs.permits import Claim, Permits
from adapters.runs.slots import Slots
from adapters.runs.waiting import TICK_SECONDS, in_thread
from pipeline.errors import RefusedInput
from pipeline.model import RunOrder
from pipeline.ports import StartCheck

log = logging.getLogger("agog.runs")


class Turns:
    """Gives permits to those who wait, and takes them from those who ended or stand still."""

    def __init__(self, home: Path, slots: Slots, look: Callable[[RunDirectory], Look]) -> None:
        """Count what lives in the state directory already.

        Raises: RefusedInput if the slots cannot be read.
        """
        self._home = home
        self._slots = slots
        self._look = look
        self._permits = Permits(slots.current())
        self._swept_at = 0.0
        self._refusal = ""
        for run in RunDirectory.living(home):
            if not run.is_suspended:
                self._permits.adopt(run.run_id)

    @property
    def living(self) -> int:
        """How many runs hold a permit because they live."""
        return len(self._permits.living)

    def adopt(self, run_id: str) -> None:
        """Count a run that lives, even above the limit."""
        self._permits.adopt(run_id)

    def free(self, run_id: str) -> None:
        """The run has ended, or stands still."""
        self._permits.free(run_id)

    async def take(
        self,
        run: RunDirectory,
        order: RunOrder,
        is_wanted: Callable[[], bool],
        act: Callable[[], bool],
        after_wait: StartCheck,
    ) -> bool:
        """Wait for a permit and act with it; False if that is no longer called for.

        `is_wanted` and `act` may block; `act` says whether it did what it is for. What `after_wait`
        raises prevents the act; it is asked only if the permit was not to be had at once.
        """
        self._follow()
        claim = self._permits.claim(order.run_id, order.priority, order.remaining_minutes)
        has_waited = not claim.granted.done()
        try:
            if not await self._granted(claim, is_wanted):
                return False
            if has_waited:
                await after_wait()
            return await in_thread(act)
        finally:
            # Asked of the disk: an act that was cancelled half-way may have happened.
            is_living = not run.is_fresh and not run.is_suspended
            self._permits.settle(claim, is_living=is_living)

    async def _granted(self, claim: Claim, is_wanted: Callable[[], bool]) -> bool:
        while not claim.granted.done():
            await self._sweep()
            await asyncio.wait({claim.granted}, timeout=TICK_SECONDS)
            if not await in_thread(is_wanted):
                return False
        return True

    async def _sweep(self) -> None:
        """Follow the slots, and free what ended or stands still while nobody was attached."""
        if monotonic() - self._swept_at < TICK_SECONDS:
            return
        self._swept_at = monotonic()
        self._follow()
        for run_id in self._permits.living:
            run = RunDirectory.of(self._home, run_id)
            seen = await in_thread(partial(self._look, run))
            if not isinstance(seen, Living) or run.is_suspended:
                self._permits.free(run_id)

    def _follow(self) -> None:
        """Take over what the slots say; what cannot be read changes nothing, and is told once."""
        try:
            # Not in a thread: claims must keep the order in which they come.
            self._permits.resize(self._slots.current())
        except RefusedInput as refusal:
            if str(refusal) != self._refusal:
                log.error("The number of slots stays as it is: %s", refusal)
            self._refusal = str(refusal)
        else:
            self._refusal = ""
