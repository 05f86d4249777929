"""Waiting for work without losing any of it, and without losing a cancellation."""

import asyncio
from collections.abc import Iterable

from temporalio import workflow
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


def is_cancelled() -> bool:
    """Whether somebody has cancelled the requirement."""
    return workflow.cancellation_reason() is not None


def stop_if_cancelled() -> None:
    """Stop before something new begins.

    An activity that ends by itself although it was asked to stop hands over its result, and the
    cancellation would be forgotten with it.
    Raises: CancelledError
    """
    if is_cancelled():
        raise asyncio.CancelledError
