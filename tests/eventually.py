"""Waiting for a condition, never for a length of time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

PATIENCE_SECONDS = 240.0
"""Only ends what hangs: no test may fail because its machine is slow. What is promised within a
time is measured where that is tested."""
_POLL_SECONDS = 0.03


async def eventually(condition: Callable[[], bool], what: str) -> float:
    """Wait until the condition holds; the moment, by the monotonic clock."""

    async def ask() -> bool:
        return condition()

    return await eventually_async(ask, what)


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """The same where no event loop runs."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what} never came true"
        time.sleep(_POLL_SECONDS)


async def eventually_async(condition: Callable[[], Awaitable[bool]], what: str) -> float:
    """The same for a condition that has to be awaited."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not await condition():
        assert time.monotonic() < deadline, f"{what} never came true"
        await asyncio.sleep(_POLL_SECONDS)
    return time.monotonic()
