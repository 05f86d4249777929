"""How a workflow has ended that could not write it down itself."""

from dataclasses import dataclass

from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import CancelledError, FailureError, TerminatedError

from pipeline.failures import cut
from pipeline.model import DeliveryReport, RequirementState


@dataclass(frozen=True)
class Ending:
    """The end that is to be recorded; `commit` is what was delivered."""

    state: RequirementState
    reason: str
    commit: str = ""


async def ending_of(client: Client, workflow_id: str, run: str) -> Ending:
    """How that run has ended; it must have. Raises: temporalio's RPCError."""
    handle = client.get_workflow_handle(workflow_id, run_id=run, result_type=DeliveryReport)
    try:
        report = await handle.result(follow_runs=False)
    except WorkflowFailureError as failure:
        return _ending(failure.cause)
    return Ending(report.state, report.reason, report.commit)


def _ending(cause: BaseException) -> Ending:
    if isinstance(cause, TerminatedError):
        said = cause.message.removeprefix("Workflow terminated").strip(": ")
        reason = f"Terminated in Temporal: {said}" if said else "Terminated in Temporal."
        return Ending(RequirementState.CANCELLED, cut(reason))
    if isinstance(cause, CancelledError):
        return Ending(RequirementState.CANCELLED, "Cancelled.")
    return Ending(RequirementState.FAILED, cut(f"Its workflow failed: {_innermost(cause)}"))


def _innermost(error: BaseException) -> str:
    """What really went wrong: the outer ones only say that something has."""
    while isinstance(error, FailureError) and error.cause:
        error = error.cause
    return str(error) or type(error).__name__
