"""The doctor's looks at Temporal, NATS, the SDLC database and the workers."""

import asyncio

from nats.js.errors import NotFoundError
from sqlalchemy import make_url
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetSystemInfoRequest
from temporalio.client import Client

from adapters.migrate import pending
from adapters.nats.connection import address_of, open_connection, unavailable
from adapters.sdlc.database import address_of as database_address
from adapters.sdlc.database import open_database
from adapters.temporal.client import (
    DEFAULT_ADDRESS,
    SEARCH_ATTRIBUTES,
    known_search_attributes,
    reaching_temporal,
)
from cli.checks import Finding, Kind, Look
from cli.connections import temporal_client
from cli.installation import installation_finding, installation_of
from pipeline.events import STREAMS
from settings import Settings

ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
_WORKER_DOES = "A worker does it at its start: python worker.py"


def dependency_looks(settings: Settings) -> tuple[Look, ...]:
    """One look for each dependency, one at whose they are, and one for the worker of this host."""
    temporal = settings.temporal_address or DEFAULT_ADDRESS
    database = make_url(settings.database_url.get_secret_value())
    return (
        Look("Temporal", Kind.DEPENDENCY, temporal, lambda: _temporal(settings)),
        Look("NATS", Kind.DEPENDENCY, address_of(settings.nats_url), lambda: _nats(settings)),
        Look(
            "SDLC database",
            Kind.DEPENDENCY,
            database_address(database),
            lambda: _database(settings),
        ),
        Look(
            "Installation",
            Kind.DEPENDENCY,
            database_address(database),
            lambda: installation_finding(settings),
        ),
        Look("Worker", Kind.DEPENDENCY, settings.host, lambda: _workers(settings)),
    )


async def _temporal(settings: Settings) -> Finding:
    client = await temporal_client(settings)
    with reaching_temporal(client):
        info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
        known = await known_search_attributes(client)
    missing = [name for name in SEARCH_ATTRIBUTES if name not in known]
    # requirements run without them: the Web UI merely cannot be searched by them
    detail = f"without search attributes {', '.join(missing)}" if missing else ""
    return Finding(info.server_version, detail)


async def _workers(settings: Settings) -> Finding:
    client = await temporal_client(settings)
    installation = await installation_of(settings)
    if installation is None:
        return Finding(advice="No worker has ever been here. Start one: python worker.py")
    ours = installation.queues
    queues = {
        ours.central: TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        ours.opening: ACTIVITIES,
        ours.urgent: ACTIVITIES,
        ours.agents(settings.host): ACTIVITIES,
        ours.host(settings.host): ACTIVITIES,
        ours.tools(settings.host): ACTIVITIES,
    }
    found = {queue: await pollers(client, queue, kind) for queue, kind in queues.items()}
    if idle := [queue for queue, count in found.items() if not count]:
        advice = f"Nobody serves {', '.join(idle)}. Start a worker: python worker.py"
        return Finding(advice=advice, facts=found)
    return Finding(detail=f"{found[ours.central]} on {ours.central}", facts=found)


async def pollers(client: Client, queue: str, kind: TaskQueueType.ValueType = ACTIVITIES) -> int:
    """How many workers ask for tasks of that queue. Raises: DependencyUnavailable."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    with reaching_temporal(client):
        return len((await client.workflow_service.describe_task_queue(request)).pollers)


async def _nats(settings: Settings) -> Finding:
    password = settings.nats_password
    client = await open_connection(
        settings.nats_url, settings.nats_user, password.get_secret_value() if password else None
    )
    try:
        missing = []
        for stream in STREAMS:
            with unavailable(settings.nats_url):
                try:
                    await client.jetstream().stream_info(stream.name)
                except NotFoundError:
                    missing.append(stream.name)
        advice = f"Without streams {', '.join(missing)}. {_WORKER_DOES}" if missing else ""
        version = client.connected_server_version
        return Finding(f"{version.major}.{version.minor}.{version.patch}", advice=advice)
    finally:
        await client.close()


async def _database(settings: Settings) -> Finding:
    url = settings.database_url.get_secret_value()
    database = open_database(url)
    try:
        version = await database.read(
            lambda connection: connection.exec_driver_sql("SHOW server_version")
        )
    finally:
        await database.close()
    is_behind = await asyncio.to_thread(pending, url)
    advice = f"Migrations are missing. {_WORKER_DOES}" if is_behind else ""
    return Finding(str(version.scalar_one()), advice=advice)
