"""The ports `Sasha` and `Extender` on Temporal: calls of her workflow, and updates of others."""

import asyncio
from typing import Any

from temporalio.client import (
    Client,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.service import RPCError, RPCStatusCode
from temporalio.workflow import UpdateMethodMultiParam

from adapters.temporal_client import reaching_temporal, refusal_reason
from adapters.temporal_workflows import check_ours
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.installation import Installation, Queues
from pipeline.model import ExtensionRequest, SashaCall, SashaState

ANSWER_SECONDS = 30.0
"""A worker answers in milliseconds; recording may wait for one database outage to end."""

_GONE = (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION)

ExtendUpdate = UpdateMethodMultiParam[[Any, ExtensionRequest], str]


class TemporalSasha:
    """Reaches Sasha. Names are strings: adapters know no workflows."""

    def __init__(self, client: Client, installation: Installation) -> None:
        self._client = client
        self._installation = installation
        self._queue = installation.queues.central

    async def call(self, call: SashaCall) -> None:
        """Signal her, with a start if she is not there. Raises: DependencyUnavailable."""
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


class TemporalExtender:
    """Sends updates; Temporal drops a repeat by its id, within a run of the workflow."""

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
