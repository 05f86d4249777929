"""Waiting that ends in time or is sure to finish, and that never blocks the event loop."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")

_POLL_SECONDS = 0.1
_SHORT_SECONDS = 0.02

_stragglers: set[asyncio.Task[Any]] = set()
"""The loop itself keeps no strong reference to a task that nobody awaits."""


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, or TimeoutError when the time is over.

    Unlike `asyncio.wait_for` it does not wait until the cancelled work has ended: the client of a
    server that hangs may take long to let go.
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            _keep(task)
            task.cancel()
    if not done:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return task.result()


async def cleaned(work: Coroutine[Any, Any, None]) -> None:
    """Clean up to the end even if the caller is cancelled, who then stops waiting for it."""
    task = asyncio.create_task(work)
    _keep(task)
    await asyncio.shield(task)


async def in_thread(call: Callable[[], T]) -> T:
    """The result of a blocking call, made in a thread.

    A cancelled caller waits until the call has ended: nothing continues in the background.
    """
    task = asyncio.create_task(asyncio.to_thread(call))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        task.exception()  # the cancellation wins; the call is idempotent and will be repeated
        raise


async def until_event(event: asyncio.Event, wait: Coroutine[Any, Any, None]) -> None:
    """Wait for the event or for the end of `wait`. Raises: what `wait` raises."""
    waiting, told = asyncio.create_task(wait), asyncio.create_task(event.wait())
    try:
        await asyncio.wait({waiting, told}, return_when=asyncio.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()
    finally:
        waiting.cancel()
        told.cancel()
        await asyncio.wait({waiting, told})


async def until_ended(process: int, seconds: float) -> None:
    """Return when the process has ended, or after that time."""
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


def _keep(task: asyncio.Task[Any]) -> None:
    _stragglers.add(task)
    task.add_done_callback(_drop)


def _drop(task: asyncio.Task[Any]) -> None:
    _stragglers.discard(task)
    if not task.cancelled():
        task.exception()  # retrieved, so that the loop does not report it: nobody waits any more
