"""The port `Waker` on Temporal: signals to workflows that wait, or have to."""

import asyncio
from collections.abc import Sequence

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from pipeline.errors import DependencyUnavailable
from pipeline.model import RELEASE, REPAIRED, STAND_STILL, TURN, Waiting, Wake

_AT_ONCE = 20
"""Signals in flight: hundreds are out within a second and do not flood the server."""


class TemporalWaker:
    """Signals workflows; a repeat does no harm, since an epoch never falls."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def wake(self, wake: Wake) -> None:
        """Tell each of them the new epoch, or its turn; one that has ended needs none.

        Raises: DependencyUnavailable.
        """
        await self._tell_all(wake.workflow_ids, RELEASE, wake.epoch)
        await self._tell_all(wake.turns, TURN)

    async def pre_empt(self, workflow_ids: Sequence[str]) -> None:
        """Tell each of them to stand still. Raises: DependencyUnavailable."""
        await self._tell_all(workflow_ids, STAND_STILL)

    async def tell_repaired(self, waiting: Waiting) -> None:
        """Tell each of them that its dependency is there again. Raises: DependencyUnavailable."""
        await self._tell_all(waiting.callers, REPAIRED, waiting.dependency)

    async def _tell_all(self, workflow_ids: Sequence[str], signal: str, *said: object) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def tell(workflow_id: str) -> None:
            async with slots:
                await self._tell(workflow_id, signal, said)

        await asyncio.gather(*map(tell, workflow_ids))

    async def _tell(self, workflow_id: str, signal: str, said: Sequence[object]) -> None:
        try:
            await self._client.get_workflow_handle(workflow_id).signal(signal, args=said)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return
            address = self._client.service_client.config.target_host
            remedy = f"{workflow_id} was not told: {error.message}"
            raise DependencyUnavailable("Temporal", address, remedy) from error
