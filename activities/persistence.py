"""What has happened is written down, however long the database or NATS is away."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pipeline.errors import DependencyUnavailable
from pipeline.model import SashaCall
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)

T = TypeVar("T")

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 15.0


async def written(ports: HostPorts, write: Callable[[], Awaitable[T]]) -> T:
    """The write's result, which must be idempotent: it is repeated until every dependency is there.

    An agent that has ended holds no permit meanwhile, and its result waits in the run directory.
    """
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await write()
        except DependencyUnavailable as error:
            log.warning("What has happened waits to be recorded: %s", error)
            await ports.sasha.call(SashaCall(ports.host, error.dependency))
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
