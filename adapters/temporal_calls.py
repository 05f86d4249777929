"""Questions to Temporal about workflows."""

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from adapters.temporal_client import reaching_temporal


async def exists(client: Client, workflow_id: str) -> bool:
    """Whether Temporal knows a workflow of that id, running or ended."""
    try:
        with reaching_temporal(client):
            await client.get_workflow_handle(workflow_id).describe()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return False
        raise
    return True
