"""What workflows are told: the ports `Notifier`, `Sasha` and `Extender` on Temporal."""

import asyncio
from collections.abc import Sequence
from typing import Any

from temporalio.client import (
    Client,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.workflow import UpdateMethodMultiParam

from adapters.temporal.client import reaching_temporal, refusal_reason
from adapters.temporal.workflows import check_ours
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.installation import Installation, Queues
from pipeline.model import (
    APPLY_PREEMPTION,
    RELEASE,
    REPAIRED,
    TURN,
    ExtensionRequest,
    Notification,
    SashaCall,
    SashaState,
    Waiting,
)

_AT_ONCE = 20
"""Signals in flight: hundreds are sent within a second without flooding the server."""


class TemporalNotifier:
    """Signals workflows; a repeat is harmless, since the version of the P0 gate never falls."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def notify(self, notification: Notification) -> None:
        """Tell each workflow the gate's new version, or its turn; one that has ended needs neither.

        Raises: DependencyUnavailable.
        """
        await self._tell_all(notification.workflow_ids, RELEASE, notification.gate_version)
        await self._tell_all(notification.turns, TURN)

    async def pre_empt(self, workflow_ids: Sequence[str]) -> None:
        """Tell each workflow to suspend its agents. Raises: DependencyUnavailable."""
        await self._tell_all(workflow_ids, APPLY_PREEMPTION)

    async def tell_repaired(self, waiting: Waiting) -> None:
        """Tell each workflow that its dependency is back. Raises: DependencyUnavailable."""
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


class TemporalSasha:
    """Calls Sasha's workflow by its name: adapters import no workflows."""

    def __init__(self, client: Client, installation: Installation) -> None:
        self._client = client
        self._installation = installation
        self._queue = installation.queues.central

    async def call(self, call: SashaCall) -> None:
        """Signal her workflow, and start it if it does not run. Raises: DependencyUnavailable."""
        try:
            await self._client.start_workflow(
                "SashaWorkflow",
                SashaState(),
                id=self._installation.sasha,
                task_queue=self._queue,
                start_signal="call",
                start_signal_args=[call],
                static_summary="Looks after the infrastructure",
            )
        except RPCError as error:
            address = self._client.service_client.config.target_host
            remedy = f"Sasha was not called: {error.message}"
            raise DependencyUnavailable("Temporal", address, remedy) from error


ANSWER_SECONDS = 30.0
"""A worker answers in milliseconds; recording may wait for one database outage to end."""

_GONE = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)

ExtendUpdate = UpdateMethodMultiParam[[Any, ExtensionRequest], str]


class TemporalExtender:
    """Sends updates; within a run of the workflow Temporal drops a repeat by its id."""

    def __init__(self, client: Client, queues: Queues, update: ExtendUpdate) -> None:
        self._client = client
        self._queues = queues
        self._update = update

    async def extend(self, number: str, request: ExtensionRequest, repeat_id: str) -> str:
        """The run whose deadline was moved.

        Raises: RefusedInput, NumberElsewhere, DependencyUnavailable.
        """
        await check_ours(self._client, self._queues, number)
        handle = self._client.get_workflow_handle(number)
        try:
            with reaching_temporal(self._client):
                update = handle.execute_update(self._update, request, id=repeat_id)
                return await asyncio.wait_for(update, ANSWER_SECONDS)
        except WorkflowUpdateFailedError as refusal:
            raise RefusedInput(refusal_reason(refusal)) from refusal
        except RPCError as error:
            if error.status not in _GONE:
                raise
            raise RefusedInput(f"{number} takes no extension: {error.message}.") from error
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            raise DependencyUnavailable(
                f"{number} was told, but its worker", "its queues", "Ask the same again later."
            ) from error
