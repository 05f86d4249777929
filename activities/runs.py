"""Steering of agent runs on their host."""

from temporalio import activity

from pipeline.model import Extension
from pipeline.ports import HostPorts


class RunActivities:
    """Moves the bounds of this host's runs."""

    def __init__(self, ports: HostPorts) -> None:
        """Take the host's ports."""
        self._ports = ports

    @activity.defn
    async def extend_run(self, extension: Extension) -> None:
        """Rewrite the run's deadline and record who moved it and why."""
        await self._ports.runs.extend(extension.run_id, extension.deadline)
        await self._ports.store.extend(extension)
