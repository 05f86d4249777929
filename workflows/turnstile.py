"""The one place where parallel and sequential execution differ."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio import workflow

Rank = tuple[int, int, int]
"""Position of a dispatch in the plan: stage, kind (build before run), build. Unique in flight."""


class Turnstile:
    """Lets everything through at once, or, while not `parallel`, one dispatch after another.

    In sequential mode the waiting dispatch that stands first in the plan goes next.
    The mode may change at any time; what is already inside stays inside.
    """

    def __init__(self, *, parallel: bool = True) -> None:
        self.parallel = parallel
        self._waiting: list[Rank] = []
        self._inside = 0

    @asynccontextmanager
    async def turn(self, rank: Rank) -> AsyncIterator[None]:
        """Wait for the turn and hold it for the length of the block."""
        self._waiting.append(rank)
        try:
            await workflow.wait_condition(lambda: self._may_enter(rank))
        finally:
            self._waiting.remove(rank)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def _may_enter(self, rank: Rank) -> bool:
        return self.parallel or (self._inside == 0 and rank == min(self._waiting))
