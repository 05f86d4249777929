"""Starts a requirement's workflow; its order holds every input."""

import json

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from pipeline.errors import AlreadyStarted, NumberElsewhere
from pipeline.installation import Queues
from pipeline.model import DeliveryReport, Mode, RequirementOrder
from workflows import options
from workflows.requirement import RequirementWorkflow

_SUMMARY_BYTES, _DETAILS_BYTES = 400, 20_000
"""Temporal refuses longer static summaries and details, with what encodes them."""
_ENVELOPE = 100
_CUT = "\n\n… (the rest stands in its row)"


async def start_requirement(
    client: Client, queues: Queues, order: RequirementOrder, description: str = ""
) -> WorkflowHandle[RequirementWorkflow, DeliveryReport]:
    """Start the workflow of an accepted requirement; its number is used once.

    Title and description, as Markdown, are its summary and details in the Web UI.

    Raises: AlreadyStarted, NumberElsewhere; temporalio's RPCError if the server cannot be reached.
    """
    try:
        return await client.start_workflow(
            RequirementWorkflow.run,
            order,
            id=order.number,
            task_queue=queues.central,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
            priority=Priority(priority_key=order.priority.rank + 1),
            search_attributes=options.search_attributes(order),
            static_summary=_fitting(order.title, _SUMMARY_BYTES),
            static_details=_details(order, description),
        )
    except WorkflowAlreadyStartedError as error:
        if await _queue_of(client, order.number) != queues.central:
            raise NumberElsewhere(order.number) from error
        raise AlreadyStarted(
            f"{order.number} was started by somebody else just now. Join it with --attach."
        ) from error


def _details(order: RequirementOrder, description: str) -> str:
    """What is asked for, and how it is worked on, as Markdown."""
    target = f", to branch `{order.target}`" if order.target else ""
    mode = Mode.SEQUENTIAL if order.sequential else Mode.PARALLEL
    about = f"Priority {order.priority}, pipeline {order.pipeline.name}, {mode}{target}."
    text = _fitting(description, _DETAILS_BYTES - 2 * len((about + _CUT).encode()))
    cut = _CUT if text != description else ""
    return "\n\n".join(filter(None, (f"{text}{cut}", about)))


def _fitting(text: str, limit: int) -> str:
    """The text, or as much of its beginning as is at most so long once it is encoded as JSON."""
    fits = limit - _ENVELOPE
    while (size := len(json.dumps(text, ensure_ascii=False).encode(errors="replace"))) > fits:
        text = text[: max(0, len(text) * fits // size - 1)]
    return text


async def _queue_of(client: Client, number: str) -> str:
    """The task queue of that workflow. A raw call: the SDK cannot describe a paused workflow."""
    execution = WorkflowExecution(workflow_id=number)
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=execution)
    answer = await client.workflow_service.describe_workflow_execution(request)
    return answer.workflow_execution_info.task_queue
