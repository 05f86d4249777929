"""What every activity shares: it beats while it works, and its typed errors keep their type."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import (
    ActivityInboundInterceptor,
    ExecuteActivityInput,
    Interceptor,
)

from activities.waiting import Details, begin_details
from pipeline.errors import DependencyUnavailable, PermanentError, PipelineError
from pipeline.model import DEPENDENCIES

BEATS_PER_TIMEOUT = 4
"""Three beats may be late before a worker counts as lost."""


class HouseInterceptor(Interceptor):
    """Put once on every Worker of the house."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the activity."""
        return _Inbound(next)


class _Inbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Beat in the background and translate errors once: a permanent one is never retried."""
        async with _beating():
            try:
                return await super().execute_activity(input)
            except PipelineError as error:
                raise _translated(error) from error


def _translated(error: PipelineError) -> ApplicationError:
    # The workflow waits for a dependency, where everybody sees it; a retry would wait in secret.
    away = isinstance(error, DependencyUnavailable) and error.dependency in DEPENDENCIES
    return ApplicationError(
        str(error),
        *((error.dependency,) if isinstance(error, DependencyUnavailable) and away else ()),
        type=type(error).__name__,
        non_retryable=away or isinstance(error, PermanentError),
    )


@asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    timeout = activity.info().heartbeat_timeout
    details = begin_details()  # before the task: it shares them
    if not timeout:
        yield
        return
    beat = asyncio.create_task(_beat(timeout.total_seconds() / BEATS_PER_TIMEOUT, details))
    try:
        yield
    finally:
        beat.cancel()


async def _beat(interval_seconds: float, details: Details) -> None:
    # The start counts as a beat: a brief activity costs the server none.
    while True:
        await asyncio.sleep(interval_seconds)
        activity.heartbeat(*(detail() for detail in details))
