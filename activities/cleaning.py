"""What a requirement leaves on its host when it ends, and when that is tried again."""

import asyncio
import logging

from pipeline.errors import DependencyUnavailable
from pipeline.model import Leftover, RequirementRef
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
"""How often what an end has left behind is tried again: whatever stood in its way needs a while."""


async def clean_up(ports: HostPorts, ref: RequirementRef) -> None:
    """End what runs of an execution on this host and remove its clones; a repeat is harmless.

    What runs have cost is recorded here, since no stage will close them any more. It is recorded
    last: while the database is away everything else is done.
    """
    results = await ports.runs.end_all(ref.key)
    try:
        if ports.workspaces:
            await ports.workspaces.release(ref.number)
    finally:
        await ports.store.record_ends(ref.number, results)


async def clean_leftovers(ports: HostPorts, interval: float = INTERVAL_SECONDS) -> None:
    """Clean up, at once and at intervals, what ended requirements left on this host; for ever."""
    while True:
        try:
            for leftover in await ports.store.leftovers(ports.host):
                await _clean(ports, leftover)
        except DependencyUnavailable as error:
            log.warning("What ended requirements left waits: %s", error)
        await asyncio.sleep(interval)


async def _clean(ports: HostPorts, leftover: Leftover) -> None:
    """Try once; whatever fails is written down, and does not keep the others waiting."""
    number, reason = leftover.ref.number, ""
    try:
        await clean_up(ports, leftover.ref)
    except DependencyUnavailable:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        log.warning("[%s] It cannot be cleaned up yet: %s", number, reason)
    await ports.store.note_leftover(number, reason)
    await ports.publish(number)
