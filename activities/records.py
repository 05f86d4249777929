"""Records that no stage writes: skips, answers, reports of failures, holds, the end."""

import asyncio
import logging

from temporalio import activity

from activities.persistence import publish_soon
from pipeline.failures import aggregate
from pipeline.model import (
    Closing,
    FailureCollection,
    FailureReport,
    Held,
    Reminder,
    Reopening,
    RequirementRef,
    StageSkip,
)
from pipeline.ports import HostPorts
from pipeline.savings import Savings

log = logging.getLogger(__name__)


class RecordActivities:
    """Each activity writes one group of rows and publishes its events."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def record_skips(self, skips: tuple[StageSkip, ...]) -> None:
        """Conditional stages of one requirement were not needed."""
        await self._ports.store.skip_stages(skips)
        publish_soon(self._ports, skips[0].ref.number)

    @activity.defn
    async def record_reopening(self, reopening: Reopening) -> None:
        """An answer reopened stages."""
        await self._ports.store.reopen(reopening)
        await self._ports.publish(reopening.ref.number)

    @activity.defn
    async def remind(self, reminder: Reminder) -> None:
        """A human has not answered yet."""
        await self._ports.store.remind(reminder)
        await self._ports.publish(reminder.ref.number)

    @activity.defn
    async def pre_empt(self, ref: RequirementRef) -> None:
        """Notify every requirement whose agents this P0 suspends; a repeat is harmless."""
        await self._ports.notifier.pre_empt(await self._ports.store.to_pre_empt())

    @activity.defn
    async def record_hold(self, held: Held) -> None:
        """A dependency was down, and is back."""
        await self._ports.store.record_hold(held)
        await self._ports.publish(held.ref.number)

    @activity.defn
    async def close_requirement(self, closing: Closing) -> None:
        """Record the end, and notify the requirements that it held."""
        if await self._ports.store.close_requirement(closing):
            await self._ports.notifier.notify(await self._ports.store.to_notify())

    @activity.defn
    async def aggregate_failures(self, collection: FailureCollection) -> FailureReport:
        """Make one report of all failures and record the requirement as BLOCKED."""
        report = aggregate(collection)
        await self._ports.store.block(collection, report)
        await self._ports.publish(collection.ref.number)
        log.error("[%s] BLOCKED\n%s", collection.ref.number, report.text)
        return report

    @activity.defn
    async def publish_performance(self, ref: RequirementRef) -> None:
        """Send the performance event and every other unsent event."""
        _, savings = await asyncio.gather(
            self._ports.publish(ref.number), self._ports.store.savings(ref.number)
        )
        if savings.saved:
            log.info("[%s] %s", ref.number, savings_line(savings))


def savings_line(savings: Savings) -> str:
    """The guide's line, with measured figures."""
    minutes = savings.saved.total_seconds() / 60
    return (
        f"⚡ Parallelization saved {minutes:.0f} minutes ({savings.percentage_saved:.1f}% faster)"
    )
