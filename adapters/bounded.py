"""Waiting that ends in time, whatever the other side does."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_stragglers: set[asyncio.Task[Any]] = set()
"""The loop itself keeps no strong reference to a task that nobody awaits."""


async def within(seconds: float, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work, or TimeoutError when the time is over.

    Unlike `asyncio.wait_for` it does not wait for the end of what it cancels: the client of a
    server that hangs may take long to let go.
    """
    task = asyncio.create_task(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            _abandon(task)
    if not done:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return task.result()


async def cleaned(work: Coroutine[Any, Any, None]) -> None:
    """Clean up to the end, whatever becomes of the caller. It waits, unless it is cancelled."""
    task = asyncio.create_task(work)
    _keep(task)
    await asyncio.shield(task)


def _abandon(task: asyncio.Task[Any]) -> None:
    _keep(task)
    task.cancel()


def _keep(task: asyncio.Task[Any]) -> None:
    _stragglers.add(task)
    task.add_done_callback(_bury)


def _bury(task: asyncio.Task[Any]) -> None:
    _stragglers.discard(task)
    if not task.cancelled():
        task.exception()  # asked for, so that the loop does not report it: nobody waits any more
