"""Waiting for tasks without losing any of them."""

import asyncio
from collections.abc import Coroutine, Iterable

from temporalio.exceptions import is_cancelled_exception


async def gather_all(tasks: Iterable[asyncio.Task[object]]) -> None:
    """Wait until every task has ended, cancelled ones included.

    A plain `gather` ends with the first error, while the others still run unseen.
    Raises: the first error that is not a cancellation.
    """
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        # a cancelled activity raises an ActivityError, which is an Exception like any other
        if isinstance(result, Exception) and not is_cancelled_exception(result):
            raise result


async def to_the_end(work: Coroutine[object, object, None]) -> None:
    """Finish the work even if a cancellation arrives meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    task.result()
