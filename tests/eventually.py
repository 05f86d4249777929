"""Waiting for a condition, never for a length of time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 60.0
_POLL_SECONDS = 0.03


async def eventually(condition: Callable[[], bool], what: str) -> float:
    """Wait until the condition holds; the moment, by the monotonic clock."""

    async def ask() -> bool:
        return condition()

    return await eventually_async(ask, what)


async def eventually_async(condition: Callable[[], Awaitable[bool]], what: str) -> float:
    """The same for a condition that has to be awaited."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"{what} never came true"
        await asyncio.sleep(_POLL_SECONDS)
    return time.monotonic()
