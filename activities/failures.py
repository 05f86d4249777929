"""Failure aggregation: all failures of a round become one report."""

import logging

from temporalio import activity

from pipeline.failures import aggregate
from pipeline.model import FailureCollection, FailureReport
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)


class FailureActivities:
    """Reports failures and blocks their requirement."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def aggregate_failures(self, collection: FailureCollection) -> FailureReport:
        """Make one report of all failures and record the requirement as BLOCKED."""
        report = aggregate(collection)
        await self._ports.store.block(collection, report)
        await self._ports.publish(collection.ref.number)
        log.error("[%s] BLOCKED\n%s", collection.ref.number, report.text)
        return report
