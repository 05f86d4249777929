"""A host asks for openings only while it has room: Temporal keeps them, the more urgent first."""

import asyncio
from collections.abc import Awaitable, Callable

from temporalio.worker import (
    CustomSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
)

from pipeline.errors import DependencyUnavailable

ROOM_INTERVAL_SECONDS = 1.0
"""How often a full host looks whether one of its requirements has ended."""


class RoomSupplier(CustomSlotSupplier):
    """Lets a Worker ask for one opening at a time, and only while the host has room.

    The SDK reserves a slot before it polls. While the database is away there is always room: the
    opening is then held by that, where everybody sees it.
    """

    def __init__(self, has_room: Callable[[], Awaitable[bool]]) -> None:
        self._has_room = has_room
        self._door = asyncio.Semaphore()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Wait until the opening before is done and there is room for another one."""
        self._loop = asyncio.get_running_loop()
        await self._door.acquire()
        try:
            # Any process may end a requirement: there is no event in this one to wait for.
            while not await self._is_open():  # noqa: ASYNC110
                await asyncio.sleep(ROOM_INTERVAL_SECONDS)
        except BaseException:
            self._door.release()
            raise
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Nothing is taken without having been asked for."""
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """It is looked again before the next one is asked for."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Let the next one be asked for. Called from a thread of the SDK."""
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._door.release)

    async def _is_open(self) -> bool:
        try:
            return await self._has_room()
        except DependencyUnavailable:
            return True
