"""What an activity does that cannot continue: write until persisted, end its work, or wait."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TypeVar

from temporalio import activity

from activities.retrying import step, waits_for
from pipeline.errors import DependencyUnavailable
from pipeline.model import SashaCall
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_CALL_AGAIN_SECONDS = 60.0
"""She looks after what she was called for; a second outage may come before the first is written."""


async def written(ports: HostPorts, write: Callable[[], Awaitable[T]]) -> T:
    """The write's result, which must be idempotent: it is repeated until every dependency is there.

    An agent that has ended holds no slot meanwhile, and its result waits in the run directory.
    What is tried again here is shown like any other retry, and has no bound: what has happened
    must be written down.
    """
    pause = _FIRST_PAUSE_SECONDS
    called_at: dict[str, float] = {}
    async with step("record what has happened"):
        while True:
            try:
                return await write()
            except DependencyUnavailable as error:
                await waits_for(error)
                await _report(ports, error, called_at)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _report(
    ports: HostPorts, error: DependencyUnavailable, called_at: dict[str, float]
) -> None:
    """Say it and call Sasha, not at every try: dozens may wait for the same dependency."""
    last = called_at.get(error.dependency)
    if last is None or monotonic() - last >= _CALL_AGAIN_SECONDS:
        log.warning("What has happened waits to be recorded: %s", error)
        await ports.sasha.call(SashaCall(ports.host, error.dependency))
        called_at[error.dependency] = monotonic()


async def to_the_end(work: Coroutine[object, object, T]) -> T:
    """Finish the work even if a cancellation arrives meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    return task.result()


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
