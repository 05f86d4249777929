"""What every activity shares: it beats while it works, and its typed errors keep their type."""

import asyncio
import errno
import os
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

from pipeline.errors import (
    DependencyUnavailable,
    GitFailed,
    NoRoom,
    PermanentError,
    PipelineError,
)
from pipeline.model import component_of, disk_of

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

BEATS_PER_TIMEOUT = 4
"""Three beats may be late before a worker counts as lost."""


class HouseInterceptor(Interceptor):
    """Put once on every Worker of the house."""

    def __init__(self, host: str) -> None:
        """Take the host whose disk the activities write to."""
        self._host = host

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the activity."""
        return _Inbound(next, self._host)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, host: str) -> None:
        super().__init__(next)
        self._host = host

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Beat in the background and translate errors once: a permanent one is never retried."""
        async with _beating():
            try:
                return await super().execute_activity(input)
            except (PipelineError, OSError) as error:
                if _is_no_room(error):
                    raise _translated(NoRoom(disk_of(self._host), f"{error}.")) from error
                if isinstance(error, PipelineError):
                    raise _translated(error) from error
                raise


def _is_no_room(error: Exception) -> bool:
    """Whether a write found the disk full, ours or one of git's."""
    if isinstance(error, GitFailed):
        return any(os.strerror(number) in str(error) for number in _NO_ROOM)
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def _translated(error: PipelineError) -> ApplicationError:
    # The workflow waits for a dependency, where everybody sees it; a retry would wait in secret.
    away = isinstance(error, DependencyUnavailable) and bool(component_of(error.dependency))
    return ApplicationError(
        str(error),
        *((error.dependency,) if isinstance(error, DependencyUnavailable) and away else ()),
        type=(DependencyUnavailable if away else type(error)).__name__,
        non_retryable=away or isinstance(error, PermanentError),
    )


@asynccontextmanager
async def _beating() -> AsyncIterator[None]:
    timeout = activity.info().heartbeat_timeout
    if not timeout:
        yield
        return
    beat = asyncio.create_task(_beat(timeout.total_seconds() / BEATS_PER_TIMEOUT))
    try:
        yield
    finally:
        beat.cancel()


async def _beat(interval_seconds: float) -> None:
    # The start counts as a beat: a brief activity costs the server none.
    while True:
        await asyncio.sleep(interval_seconds)
        activity.heartbeat()
