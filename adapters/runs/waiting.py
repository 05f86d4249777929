"""Waiting without blocking the event loop."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from adapters.runs.kinds import Living

TICK_SECONDS = 0.5
"""Longest wait between two looks at a run directory."""

_SHORT_SECONDS = 0.02
_POLL_SECONDS = 0.1

T = TypeVar("T")


async def in_thread(call: Callable[[], T]) -> T:
    """The result of a blocking call, made in a thread.

    Cancelled, it waits for the call's end first: nothing goes on behind the caller's back.
    """
    task = asyncio.create_task(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # the cancellation goes first; the call is idempotent and will be repeated
        raise


async def end_of(seen: Living) -> None:
    """Return when the run may have ended, after a tick at the latest."""
    if seen.process is not None:
        await departure(seen.process, TICK_SECONDS)
    elif seen.seconds is not None:
        await asyncio.sleep(min(seen.seconds, TICK_SECONDS))
    else:
        await appearance()


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


async def until_event(event: asyncio.Event, wait: Coroutine[Any, Any, None]) -> None:
    """Wait as told, but no longer than until the event. Raises: what the wait raises."""
    waiting, told = asyncio.create_task(wait), asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiting, told}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
    finally:
        waiting.cancel()
        told.cancel()
        await asyncio.wait({waiting, told})


async def appearance() -> None:
    """The moment that a supervisor takes to say who it is."""
    await asyncio.sleep(_SHORT_SECONDS)
