"""What an activity does that cannot continue: write until persisted, end its work, or wait."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from time import monotonic
from typing import TypeVar

from temporalio import activity

from activities.retrying import step, waits_for
from pipeline.errors import DependencyUnavailable, PipelineError
from pipeline.model import SashaCall
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0
_CALL_AGAIN_SECONDS = 60.0
"""A second outage may follow before the first is recorded, so she is called again."""
_LASTS_SECONDS = 1.0
"""A publication costs about as much as all else that the database does for a build."""
_publishing: set[asyncio.Task[None]] = set()
"""What nobody awaits, kept from being collected."""


async def until_persisted(ports: HostPorts, write: Callable[[], Awaitable[T]]) -> T:
    """Retry an idempotent write until it is persisted; returns its result.

    The ended agent holds no slot meanwhile, and its result waits in the run directory. The retry is
    shown like any other, but has no bound: what happened must be recorded.
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


def publish_soon(ports: HostPorts, number: str) -> None:
    """Publish a requirement's pending events while its work goes on.

    The next boundary, or the end, publishes what is still pending and does not pass before it.
    """
    task = asyncio.create_task(_publish(ports, number))
    _publishing.add(task)
    task.add_done_callback(_publishing.discard)


@contextmanager
def publishing_what_lasts(ports: HostPorts, number: str) -> Iterator[None]:
    """Publish the pending events of a requirement, if the block is not over in a moment.

    The end of a short one is published together with its start.
    """
    later = asyncio.get_running_loop().call_later(_LASTS_SECONDS, publish_soon, ports, number)
    try:
        yield
    finally:
        later.cancel()


async def _publish(ports: HostPorts, number: str) -> None:
    try:
        await ports.publish(number)
    except PipelineError as error:
        log.warning("Events of %s wait: %s", number, error)


async def _report(
    ports: HostPorts, error: DependencyUnavailable, called_at: dict[str, float]
) -> None:
    """Log it and call Sasha, but not at every try: dozens may wait for the same dependency."""
    last = called_at.get(error.dependency)
    if last is None or monotonic() - last >= _CALL_AGAIN_SECONDS:
        log.warning("What has happened waits to be recorded: %s", error)
        await ports.sasha.call(SashaCall(ports.host, error.dependency))
        called_at[error.dependency] = monotonic()


async def shielded(work: Coroutine[object, object, T]) -> T:
    """Shield the work from cancellation: it always finishes."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue
    return task.result()


def subscriber() -> str:
    """The workflow to notify when a paused activity may continue: its own."""
    return str(activity.info().workflow_id)


@asynccontextmanager
async def letting_others_deliver(ports: HostPorts, number: str) -> AsyncIterator[None]:
    """Give up the requirement's turn to deliver if a dependency is down; it keeps its place.

    While the database is down nobody can take a turn, so it keeps its turn as well.
    """
    try:
        yield
    except DependencyUnavailable:
        with suppress(DependencyUnavailable):
            if await ports.store.leave_line(number, keeps_place=True):
                await notify_others(ports)
        raise


async def notify_others(ports: HostPorts) -> None:
    """Notify the workflows that may continue or deliver now that this requirement waits."""
    await ports.notifier.notify(await ports.store.to_notify())
