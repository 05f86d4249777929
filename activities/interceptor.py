"""What every activity shares: it beats, errors keep their type, no retry is endless or secret."""

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

from activities.retrying import Attempt, attempting
from pipeline.errors import DependencyUnavailable, PermanentError
from pipeline.model import DEPENDENCIES
from pipeline.ports import HostPorts

BEATS_PER_TIMEOUT = 4
"""Three beats may be late before a worker counts as lost."""


class HouseInterceptor(Interceptor):
    """Put once on every Worker of the house."""

    def __init__(self, ports: HostPorts) -> None:
        """Take the host's ports: retries are shown in its database."""
        self._ports = ports

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Wrap the activity."""
        return _Inbound(next, self._ports)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, ports: HostPorts) -> None:
        super().__init__(next)
        self._ports = ports

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """Beat in the background, translate errors once, bound and show what is repeated."""
        async with attempting(self._ports, input.args) as attempt, _beating(attempt):
            try:
                result = await super().execute_activity(input)
                # What cannot be sent would be found out behind us, and repeated for ever.
                activity.payload_converter().to_payloads([result])
            except ApplicationError:
                raise
            except PermanentError as error:
                await attempt.over()
                raise _final(error) from error
            except DependencyUnavailable as error:
                # The workflow waits for it, where everybody sees it; a retry would wait in secret.
                if error.dependency not in DEPENDENCIES:
                    raise await attempt.failed(error) from error
                await attempt.over()
                raise _final(error, error.dependency) from error
            except Exception as error:
                raise await attempt.failed(error) from error
            await attempt.over()
            return result


def _final(error: Exception, *details: str) -> ApplicationError:
    return ApplicationError(str(error), *details, type=type(error).__name__, non_retryable=True)


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
    # The start counts as a beat: a brief activity costs the server none.
    while True:
        await asyncio.sleep(interval_seconds)
        attempt.beat()
