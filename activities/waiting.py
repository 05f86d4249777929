"""What an activity does when something holds what it is about to begin."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from temporalio import activity

from pipeline.errors import DependencyUnavailable
from pipeline.ports import HostPorts


def waiter() -> str:
    """The workflow to wake when it may go on: the one that this activity belongs to."""
    return str(activity.info().workflow_id)


@asynccontextmanager
async def letting_others_deliver(ports: HostPorts, number: str) -> AsyncIterator[None]:
    """Give the requirement's turn to deliver up if a dependency is away: it has to wait.

    It keeps its place. While the database is away nobody can take a turn, so it keeps that, too.
    """
    try:
        yield
    except DependencyUnavailable:
        with suppress(DependencyUnavailable):
            if await ports.store.leave_line(number, keeps_place=True):
                await wake_others(ports)
        raise


async def wake_others(ports: HostPorts) -> None:
    """Wake whoever may go on or deliver now that this requirement waits."""
    await ports.waker.wake(await ports.store.to_wake())
