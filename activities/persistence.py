"""What has happened is written down, however long the database or NATS is away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

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
