"""A human's word to a workflow: delivered, and its refusals as typed errors."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, TypeVar

from temporalio.client import (
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import is_cancelled_exception
from temporalio.service import RPCError, RPCStatusCode

from adapters.sdlc_reader import SdlcReader
from adapters.sdlc_views import LeftoverView
from adapters.temporal.client import reaching_temporal, refusal_reason
from adapters.temporal.workflows import check_ours
from cli.connections import Services, services
from cli.naming import stage_name
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.model import OPENING, DeliveryReport
from pipeline.plan_rules import DELIVER
from settings import Settings
from workflows.requirement import RequirementWorkflow

T = TypeVar("T")
Handle = WorkflowHandle[RequirementWorkflow, DeliveryReport]

ANSWER_SECONDS = 30.0
"""A worker answers in milliseconds; recording may wait for one database outage to end."""
CANCEL_SECONDS = 60.0
"""Agents are asked to end, killed after a grace, and their clones removed, or left to the host."""
_NO_WORKER = "Start one with: python worker.py (or python starter.py up)"


async def steered(
    settings: Settings,
    number: str,
    ask: Callable[[Handle, str], Awaitable[T]],
    *,
    stage: str = "",
    may_deliver: bool = False,
) -> T:
    """Ask a requirement's workflow; its answer. Some answers are for the delivery, too.

    Raises: UnknownRequirement for number or stage, RefusedInput with the workflow's reason,
        NumberElsewhere if the workflow is another installation's, DependencyUnavailable if no
        worker answers.
    """
    async with services(settings) as connected:
        is_stage = bool(stage) and not (may_deliver and stage in (DELIVER, OPENING))
        name = await stage_name(connected.reader, number, stage) if is_stage else stage
        await check_ours(connected.temporal, connected.installation.queues, number)
        handle = connected.temporal.get_workflow_handle_for(RequirementWorkflow.run, number)
        try:
            with reaching_temporal(connected.temporal):
                return await asyncio.wait_for(ask(handle, name), ANSWER_SECONDS)
        except WorkflowUpdateFailedError as refusal:
            reason = refusal_reason(refusal)
            named = "" if reason.startswith(number) else f"{number}: "
            raise RefusedInput(f"{named}{reason}") from refusal
        except RPCError as error:
            await _explain(connected.reader, number, error)
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            raise _unanswered(connected, number) from error


async def cancelled(settings: Settings, number: str) -> LeftoverView | None:
    """Cancel and wait until the requirement has ended; what it left. Raises: as `steered`."""
    async with services(settings) as connected:
        # Temporal takes a cancellation of what has ended, too
        if (state := (await connected.reader.requirement(number)).state).is_final:
            raise RefusedInput(f"{number} has ended: it is {state}.")
        await check_ours(connected.temporal, connected.installation.queues, number)
        handle = connected.temporal.get_workflow_handle_for(RequirementWorkflow.run, number)
        try:
            with reaching_temporal(connected.temporal):
                await handle.cancel()
                report = await asyncio.wait_for(handle.result(), CANCEL_SECONDS)
        except WorkflowFailureError as failure:
            if is_cancelled_exception(failure.cause):
                return (await connected.reader.requirement(number)).leftover
            raise RefusedInput(
                f"{number} failed before it could be cancelled: {failure.cause}"
            ) from failure
        except RPCError as error:
            await _explain(connected.reader, number, error)
        except TimeoutError as error:
            raise _unanswered(connected, number) from error
        raise RefusedInput(f"{number} was already ending: it is {report.state}.")


async def _explain(reader: SdlcReader, number: str, error: RPCError) -> NoReturn:
    """Why Temporal does not take the word to that workflow."""
    if error.status is RPCStatusCode.FAILED_PRECONDITION:  # somebody has paused it
        raise RefusedInput(f"{number}: {error.message}") from error
    if error.status is not RPCStatusCode.NOT_FOUND:
        raise error
    state = (await reader.requirement(number)).state  # raises UnknownRequirement
    if state.is_final:
        raise RefusedInput(f"{number} has ended: it is {state}.") from error
    raise RefusedInput(
        f"{number} is {state} but was never started: complete the same `start` first."
    ) from error


def _unanswered(connected: Services, number: str) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"{number} was told, but its worker", f"queue {connected.installation.queues.central}",
        f"{_NO_WORKER}; then look with: python starter.py status {number}",
    )  # fmt: skip
