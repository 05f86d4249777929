"""Waiting without blocking the event loop, and without falling silent."""

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

TICK_SECONDS = 0.5
"""Longest silence while waiting: half of the second that `AgentRuns.attach` promises."""

_SHORT_SECONDS = 0.02
_POLL_SECONDS = 0.1

T = TypeVar("T")


def nobody_listens() -> None:
    """Take the sign of life of a caller that gives its own, as an activity's heartbeat does."""


async def in_thread(call: Callable[[], T], alive: Callable[[], None]) -> T:
    """The result of a blocking call, made in a thread; `alive` is called while it takes long.

    Cancelled, it waits for the call's end first: nothing goes on behind the caller's back.
    """
    task = asyncio.create_task(asyncio.to_thread(call))
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=TICK_SECONDS)
            alive()
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # the cancellation goes first; the call is idempotent and will be repeated
        raise
    return task.result()


async def departure(process: int, seconds: float) -> None:
    """Return when the process has ended, at the latest after that time."""
    if sys.platform != "linux":
        await asyncio.sleep(min(_POLL_SECONDS, seconds))
        return
    try:
        descriptor = os.pidfd_open(process)
    except ProcessLookupError:
        await asyncio.sleep(_SHORT_SECONDS)
        return
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        with suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), seconds)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def appearance() -> None:
    """The moment that a supervisor takes to say who it is."""
    await asyncio.sleep(_SHORT_SECONDS)
