"""Starts a requirement's workflow; its order holds every input."""

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import Priority, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError

from pipeline.errors import AlreadyStarted, NumberElsewhere
from pipeline.installation import Queues
from pipeline.model import DeliveryReport, RequirementOrder
from workflows import options
from workflows.requirement import RequirementWorkflow

_SUMMARY_BYTES = 200
"""Temporal refuses longer static summaries."""


async def start_requirement(
    client: Client, queues: Queues, order: RequirementOrder
) -> WorkflowHandle[RequirementWorkflow, DeliveryReport]:
    """Start the workflow of an accepted requirement; its number is used once.

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
            static_summary=order.title.encode()[:_SUMMARY_BYTES].decode(errors="ignore"),
        )
    except WorkflowAlreadyStartedError as error:
        if await _queue_of(client, order.number) != queues.central:
            raise NumberElsewhere(order.number) from error
        raise AlreadyStarted(
            f"{order.number} was started by somebody else just now. Join it with --attach."
        ) from error


async def _queue_of(client: Client, number: str) -> str:
    """The task queue of that workflow. A raw call: the SDK cannot describe a paused workflow."""
    execution = WorkflowExecution(workflow_id=number)
    request = DescribeWorkflowExecutionRequest(namespace=client.namespace, execution=execution)
    answer = await client.workflow_service.describe_workflow_execution(request)
    return answer.workflow_execution_info.task_queue
