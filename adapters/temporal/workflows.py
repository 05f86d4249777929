"""What Temporal says of workflows, read raw: a paused workflow breaks the SDK's descriptions."""

from dataclasses import dataclass

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionRequest,
    ListWorkflowExecutionsRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.temporal.client import reaching_temporal
from pipeline.errors import NumberElsewhere
from pipeline.installation import Queues

_PAGE = 1_000
_ENDED = frozenset(
    {
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_FAILED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_CANCELED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TERMINATED,
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_TIMED_OUT,
    }
)
"""Not in it: a workflow that continued as new, since its successor is described instead, and a
paused one, since it continues."""


@dataclass(frozen=True)
class WorkflowStatus:
    """The latest run of a workflow; `first_run` identifies its whole chain.

    `queue` is its task queue, which tells whose workflow it is.
    """

    run: str
    first_run: str
    has_ended: bool
    queue: str


async def workflow_status(client: Client, workflow_id: str) -> WorkflowStatus | None:
    """A workflow's status; None if Temporal does not know it. Raises: DependencyUnavailable."""
    request = DescribeWorkflowExecutionRequest(
        namespace=client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
    )
    try:
        with reaching_temporal(client):
            answer = await client.workflow_service.describe_workflow_execution(request)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return None
        raise
    info = answer.workflow_execution_info
    return WorkflowStatus(
        info.execution.run_id, info.first_run_id, info.status in _ENDED, info.task_queue
    )


async def check_ours(client: Client, queues: Queues, number: str) -> None:
    """Check that the workflow of that number does not belong to another installation.

    Raises: NumberElsewhere, DependencyUnavailable.
    """
    status = await workflow_status(client, number)
    if status and status.queue != queues.central:
        raise NumberElsewhere(number)


async def running_workflows(client: Client, queues: Queues, workflow_type: str) -> frozenset[str]:
    """Ids of the installation's running workflows, from an index that may be seconds old.

    Raises: DependencyUnavailable.
    """
    found: set[str] = set()
    request = ListWorkflowExecutionsRequest(
        namespace=client.namespace,
        page_size=_PAGE,
        query=f"WorkflowType = '{workflow_type}' AND ExecutionStatus = 'Running'"
        f" AND TaskQueue = '{queues.central}'",
    )
    while True:
        with reaching_temporal(client):
            page = await client.workflow_service.list_workflow_executions(request)
        found.update(each.execution.workflow_id for each in page.executions)
        if not page.next_page_token:
            return frozenset(found)
        request.next_page_token = page.next_page_token
