"""The NATS activity: what a requirement brought goes out as `workflow.performance`."""

import logging

from temporalio import activity

from pipeline.model import RequirementRef
from pipeline.ports import HostPorts
from pipeline.savings import Savings

log = logging.getLogger(__name__)


class PerformanceActivities:
    """Publishes performance events."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def publish_performance(self, ref: RequirementRef) -> None:
        """Send the performance event and everything else that is not out yet."""
        await self._ports.publish(ref.number)
        savings = await self._ports.store.savings(ref.number)
        if savings.saved:
            log.info("[%s] %s", ref.number, savings_line(savings))


def savings_line(savings: Savings) -> str:
    """The guide's line, with measured figures."""
    minutes = savings.saved.total_seconds() / 60
    return (
        f"⚡ Parallelization saved {minutes:.0f} minutes ({savings.percentage_saved:.1f}% faster)"
    )
