"""Calls to Temporal: its errors as ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from pipeline.errors import DependencyUnavailable

REMEDY = "Start it with: python starter.py up"
_UNREACHED = (
    RPCStatusCode.UNAVAILABLE,
    RPCStatusCode.DEADLINE_EXCEEDED,
    RPCStatusCode.CANCELLED,
    RPCStatusCode.RESOURCE_EXHAUSTED,
)


@contextmanager
def reaching_temporal(client: Client) -> Iterator[None]:
    """Turn what a server that has gone away says into DependencyUnavailable."""
    try:
        yield
    except RPCError as error:
        if error.status not in _UNREACHED:
            raise
        address = client.service_client.config.target_host
        raise DependencyUnavailable("Temporal", address, REMEDY) from error


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
