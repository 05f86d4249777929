"""The opening: a host with room takes the requirement and checks that it can run it."""

import asyncio

from temporalio import activity

from activities.persistence import publish_soon, subscriber
from pipeline.agents_file import check_plan
from pipeline.errors import ProjectRefused
from pipeline.model import Opening, OpeningRequest
from pipeline.ports import HostPorts


class OpeningActivities:
    """Opens requirements on this host, one at a time, as long as it has room; P0s always.

    A full host asks for none (`hosting/room.py`): they wait in Temporal's queue, the more urgent
    first, for whichever host has room.
    """

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports
        self._door = asyncio.Lock()

    @activity.defn
    async def open_requirement(self, request: OpeningRequest) -> Opening:
        """Check agents and project, and that there is room unless it is a P0; record the opening.

        While something holds the requirement it is not taken: the answer says what. So work begins
        on what its blockers have delivered, and a P0 finds the host as full as it was.

        Raises: AgentsFileRefused, OtherProject: a human is asked to mend the file or the setting.
            ProjectRefused: the requirement ends FAILED with the reason.
        """
        self._ports.readiness.check()
        check_plan(self._ports.agents(), request.pipeline)
        if not request.needs_room:
            return await self._held(request) or await self._take(request)
        async with self._door:
            limit, number = self._ports.host_requirements, request.ref.number
            held, is_full = await asyncio.gather(
                self._held(request),
                # The host may have filled up since it asked for an opening.
                self._ports.store.is_full(self._ports.host, limit, number=number),
            )
            if held:
                return held
            if is_full:
                return Opening("", None, "", self._ports.parallel, is_full=True)
            return await self._take(request)

    @activity.defn
    async def open_fix(self, request: OpeningRequest) -> Opening:
        """Open a fix on the host of its requirement, which has room for it already.

        Raises: AgentsFileRefused, ProjectRefused: the fix ends FAILED with the reason.
        """
        self._ports.readiness.check()
        check_plan(self._ports.agents(), request.pipeline)
        base, head = request.fix.head if request.fix else None, None
        if base:
            head, _ = await self._ports.project.open(request.ref.number, base.commit)
        return await self._record(
            request, Opening(self._ports.host, head, "", self._ports.parallel)
        )

    async def _record(self, request: OpeningRequest, opening: Opening) -> Opening:
        await self._ports.store.open_requirement(request, opening)
        publish_soon(self._ports, request.ref.number)
        return opening

    async def _held(self, request: OpeningRequest) -> Opening | None:
        hold = await self._ports.store.pass_opening(request, subscriber())
        if hold is None:
            return None
        await self._ports.publish(request.ref.number)
        return Opening("", None, "", self._ports.parallel, hold)

    async def _take(self, request: OpeningRequest) -> Opening:
        ports, head, target = self._ports, None, ""
        if request.undo or not ports.agents().is_simulated(request.pipeline):
            if ports.workspaces is None:
                raise ProjectRefused(f"PROJECT_ROOT is not set for the worker on {ports.host}.")
            if request.project:
                await ports.workspaces.check_is(request.project)
            head, target = await ports.workspaces.open(
                request.ref.number, target=request.target, undo=request.undo
            )
        return await self._record(request, Opening(ports.host, head, target, ports.parallel))
