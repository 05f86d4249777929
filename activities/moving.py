"""Takes what waits for a host that is lost: its requirement moves here, or a human is asked."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from temporalio import activity
from temporalio.common import RawValue

from activities.persistence import notify_others
from activities.retrying import step
from pipeline.errors import HostLost, RequirementMoved
from pipeline.lost_hosts import Moving, no_project, number_of, was_delivering, was_here
from pipeline.ports import HostPorts


class MovingActivities:
    """Serves the queues of one lost host. `beat` is the last that it has told of itself."""

    def __init__(self, ports: HostPorts, lost: str, beat: str) -> None:
        self._ports = ports
        self._lost = lost
        self._beat = beat
        self._doors: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """One of each requirement: several of its activities may wait for the lost host."""

    @activity.defn(dynamic=True)
    async def move(self, arguments: Sequence[RawValue]) -> None:
        """Answer whatever was asked of the lost host: its workflow asks the new one again.

        Raises: RequirementMoved, always, unless nobody can continue it: HostLost with the words for
            a human. HostBack, to be tried again, if the host lives after all.
        """
        number, ports = number_of(activity.info().workflow_id or ""), self._ports
        root = (await self._moving(number)).number
        async with self._doors[root]:
            # Another one may have moved it meanwhile. What is merged here by now stays: a second
            # fetch would set its branches back to what the lost host has pushed.
            await self._move(await self._moving(number))
        await ports.publish(root)
        await notify_others(ports)  # it has left its place in the line of the lost host's project
        raise RequirementMoved(number, self._lost, ports.host)

    async def _moving(self, number: str) -> Moving:
        what = await self._ports.store.moving(number, self._lost)
        if what is None:
            raise HostLost(f"Host {self._lost} is lost.")
        return what

    async def _move(self, what: Moving) -> None:
        ports = self._ports
        if what.delivering:
            raise HostLost(was_delivering(what))
        if ports.host in what.left:
            raise HostLost(was_here(what, ports.host))
        async with step(f"take {what.number} over from {self._lost}"):
            await self._take_over(what)
            await ports.store.move(what, ports.host, self._beat)

    async def _take_over(self, what: Moving) -> None:
        if not any(part.base for part in what.parts):
            return  # no project is needed
        if self._ports.workspaces is None:
            raise HostLost(no_project(what, self._ports.host))
        await self._ports.workspaces.take_over(what)
