"""Steering of agent runs on their host."""

from temporalio import activity

from activities.waiting import waiter
from pipeline.model import Extension, Hold, RequirementRef
from pipeline.ports import HostPorts


class RunActivities:
    """Moves the bounds of this host's runs."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def stand_still(self, ref: RequirementRef) -> Hold | None:
        """Let the requirement's agents stand still as long as a P0 pre-empts them, else go on.

        The outcome says for whom they stand still.
        """
        hold = await self._ports.store.stand_still(ref, waiter())
        if hold:
            await self._ports.runs.suspend(ref.key)
        else:
            await self._ports.runs.resume(ref.key)
        await self._ports.publish(ref.number)
        return hold

    @activity.defn
    async def extend_run(self, extension: Extension) -> None:
        """Rewrite the run's deadline and record who moved it and why."""
        await self._ports.runs.extend(extension.run_id, extension.deadline)
        await self._ports.store.extend(extension)
