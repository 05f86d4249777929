"""What an activity raises, as the workflow sees it."""

import errno
import os
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from activities.interceptor import ActivityInterceptor
from pipeline.errors import DependencyUnavailable, GitFailed, NoRoom
from pipeline.model import Retry, component_of, disk_of, place_of
from pipeline.ports import HostPorts

DISK = disk_of("host-1")
FULL = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/x"),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    GitFailed("git add in x: exit code 128: fatal: write error: No space left on device"),
    NoRoom(DISK, "0 MiB are free."),
]


MINUTE = timedelta(minutes=1)


class Books:
    """What is shown of retries goes nowhere."""

    async def note_retry(self, retry: Retry) -> None:
        """Nobody looks."""


class Raising(ActivityInboundInterceptor):
    """An activity that fails."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        raise self._error


async def raised(error: Exception) -> Exception:
    ports = cast(HostPorts, SimpleNamespace(host="host-1", store=Books(), retry_bound=MINUTE))
    inbound = ActivityInterceptor(ports).intercept_activity(Raising(error))
    nothing = ExecuteActivityInput(lambda: None, (), None, {})
    with pytest.raises(Exception) as caught:  # noqa: PT011 # which one is the question
        await ActivityEnvironment().run(inbound.execute_activity, nothing)
    return caught.value


@pytest.mark.parametrize("error", FULL)
async def test_what_fails_for_lack_of_room_is_held_by_the_disk_of_its_host(
    error: Exception,
) -> None:
    seen = await raised(error)

    assert isinstance(seen, ApplicationError)
    assert (seen.type, seen.details) == (DependencyUnavailable.__name__, (DISK,))
    assert seen.non_retryable
    assert "no room" in seen.message


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "gone"), GitFailed("git gc: exit code 1: no")]
)
async def test_other_errors_are_retried(error: Exception) -> None:
    seen = await raised(error)

    assert not isinstance(seen, ApplicationError) or not seen.non_retryable


def test_disk_as_a_dependency_belongs_to_its_host() -> None:
    assert (component_of(DISK), place_of(DISK)) == ("disk", "host-1")
    assert (component_of("NATS"), place_of("NATS")) == ("nats", "")
    assert (component_of("git"), place_of("git")) == ("", "")
