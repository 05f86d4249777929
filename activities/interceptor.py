"""What every activity shares: it beats, errors keep their type, no retry is endless or secret.

A file of its own: workflows import the activities, and must not load what a worker needs.
"""

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

from activities.retrying import Attempt, attempting
from pipeline.errors import (
    DependencyUnavailable,
    GitFailed,
    NoRoom,
    PermanentError,
    RequirementMoved,
    printable,
)
from pipeline.lost_hosts import number_of
from pipeline.model import component_of, disk_of
from pipeline.ports import HostPorts

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

BEATS_PER_TIMEOUT = 4
"""Three beats may be late before a worker counts as lost."""


class ActivityInterceptor(Interceptor):
    """Wraps every activity of every Worker.

    Those of a queue that `is_of_host` are refused for what another host continues by now.
    """

    def __init__(self, ports: HostPorts, *, is_of_host: bool = False) -> None:
        self._ports = ports
        self._is_of_host = is_of_host

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the activity."""
        return _Inbound(next, self._ports, is_of_host=self._is_of_host)


class _Inbound(ActivityInboundInterceptor):
    def __init__(
        self, next: ActivityInboundInterceptor, ports: HostPorts, *, is_of_host: bool
    ) -> None:
        super().__init__(next)
        self._ports = ports
        self._is_of_host = is_of_host

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Beat in the background, translate errors once, bound and show what is repeated."""
        async with attempting(self._ports, input.args) as attempt, _beating(attempt):
            try:
                self._refuse_moved()
                result = await super().execute_activity(input)
                # A result that cannot be sent would fail after this, and be retried for ever.
                activity.payload_converter().to_payloads([result])
            except ApplicationError:
                raise
            except Exception as error:
                raise await self._translated(error, attempt) from error
            await attempt.over()
            return result

    def _refuse_moved(self) -> None:
        number = number_of(activity.info().workflow_id or "")
        if self._is_of_host and (host := self._ports.moved.get(number)):
            raise RequirementMoved(number, self._ports.host, host)

    async def _translated(self, error: Exception, attempt: Attempt) -> ApplicationError:
        """The error for Temporal: retry within the bound, or never."""
        if _is_no_room(error):
            error = NoRoom(disk_of(self._ports.host), f"{error}.")
        away = isinstance(error, DependencyUnavailable) and bool(component_of(error.dependency))
        if not away and not isinstance(error, PermanentError):
            return await attempt.failed(error)
        await attempt.over()
        # The workflow waits for a dependency, visibly; a retry here would be hidden.
        details: tuple[str, ...] = ()
        if isinstance(error, DependencyUnavailable):
            details = (error.dependency,)
        elif isinstance(error, RequirementMoved):
            details = (error.lost, error.host)
        kind = DependencyUnavailable if away else type(error)
        return ApplicationError(
            printable(str(error)), *details, type=kind.__name__, non_retryable=True
        )


def _is_no_room(error: Exception) -> bool:
    """Whether a write found the disk full, ours or one of git's."""
    if isinstance(error, GitFailed):
        return any(os.strerror(number) in str(error) for number in _NO_ROOM)
    return isinstance(error, OSError) and error.errno in _NO_ROOM


@asynccontextmanager
async def _beating(attempt: Attempt) -> AsyncIterator[None]:
    timeout = activity.info().heartbeat_timeout
    if not timeout:
        yield
        return
    beat = asyncio.create_task(_beat(attempt, timeout.total_seconds() / BEATS_PER_TIMEOUT))
    try:
        yield
    finally:
        beat.cancel()


async def _beat(attempt: Attempt, interval_seconds: float) -> None:
    # The start counts as a heartbeat, so a brief activity costs the server none.
    while True:
        await asyncio.sleep(interval_seconds)
        attempt.beat()
