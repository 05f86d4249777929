"""The doctor's probes of the dependencies: the servers, what they hold, and the workers."""

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from nats.js.errors import NotFoundError
from sqlalchemy import make_url
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, GetSystemInfoRequest
from temporalio.client import Client

from adapters.health_probe import WORKER_FILE
from adapters.nats.connection import NatsLogin, address_of, open_connection, unavailable
from adapters.nats.events import find_flaw
from adapters.readiness import PROBE_SECONDS
from adapters.sdlc.database import address_of as database_address
from adapters.sdlc.database import open_database
from adapters.sdlc.migrate import UNKNOWN_REVISION, Schema, pending, schema
from adapters.temporal.client import (
    DEFAULT_ADDRESS,
    SEARCH_ATTRIBUTES,
    known_search_attributes,
    reaching_temporal,
)
from cli.accounts import account_line
from cli.connections import records, temporal_client
from cli.doctor.checks import Finding, Kind, Probe
from cli.installation import installation_of, proved_binding
from cli.status import leftover_line, retry_document, retry_lines
from hosting.logins import nats_login
from pipeline.errors import DependencyUnavailable
from pipeline.events import STREAMS, Stream
from pipeline.installation import Installation, Queues
from pipeline.phases import OPEN_STATES
from settings import Settings

_ACTIVITIES = TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY
_HEALTH_SECONDS = 3.0

_WORKER_DOES = "A worker repairs this when it starts: python worker.py"
_NEW = "not bound yet: the first worker or the first start binds it to the Temporal that answers"
_REPAIR = "Sasha or the next start of a worker repairs it."

_SCHEMAS = {
    Schema.CURRENT: Finding(detail="current"),
    Schema.BEHIND: Finding(detail="behind", advice=f"Migrations are missing. {_REPAIR}"),
    Schema.UNKNOWN: Finding(detail="unknown", advice=UNKNOWN_REVISION),
}


def dependency_probes(settings: Settings) -> tuple[Probe, ...]:
    """The three servers, the installation they belong to, and the workers of this host."""
    temporal = settings.temporal_address or DEFAULT_ADDRESS
    database = database_address(make_url(settings.database_url.get_secret_value()))
    return (
        Probe("Temporal", Kind.DEPENDENCY, temporal, lambda: _temporal(settings)),
        Probe("NATS", Kind.DEPENDENCY, address_of(settings.nats_url), lambda: _nats(settings)),
        Probe(
            "SDLC database",
            Kind.DEPENDENCY,
            database,
            lambda: _database(settings),
        ),
        Probe(
            "Installation",
            Kind.DEPENDENCY,
            database,
            lambda: _installation(settings),
        ),
        Probe("Worker", Kind.DEPENDENCY, settings.host, lambda: _workers(settings)),
    )


def store_probes(settings: Settings) -> tuple[Probe, ...]:
    """The streams, the migrations, and what the rows say of failing steps and clean-ups."""
    login = nats_login(settings)
    database = database_address(make_url(settings.database_url.get_secret_value()))
    return (
        *(
            Probe(
                f"Stream {stream.name}",
                Kind.DEPENDENCY,
                login.address,
                partial(_stream, login, stream),
            )
            for stream in STREAMS
        ),
        Probe("Migrations", Kind.DEPENDENCY, database, lambda: _migrations(settings)),
        Probe("Retries", Kind.CONFIGURATION, database, lambda: _retries(settings)),
        Probe("Accounts", Kind.CONFIGURATION, database, lambda: _accounts(settings)),
        Probe("Leftovers", Kind.CONFIGURATION, database, lambda: _leftovers(settings)),
    )


def worker_probes(settings: Settings) -> tuple[Probe, ...]:
    """The health of this host's worker, and the workers of every known host."""
    worker_file = str(settings.home / WORKER_FILE)
    return (
        Probe("Health", Kind.DEPENDENCY, worker_file, lambda: _health(settings.home)),
        Probe("Hosts", Kind.DEPENDENCY, settings.host, lambda: _hosts(settings)),
    )


async def _temporal(settings: Settings) -> Finding:
    client = await temporal_client(settings)
    with reaching_temporal(client):
        info = await client.workflow_service.get_system_info(GetSystemInfoRequest())
        known = await known_search_attributes(client)
    missing = [name for name in SEARCH_ATTRIBUTES if name not in known]
    # requirements run without them; only the Web UI cannot search by them
    detail = f"without search attributes {', '.join(missing)}" if missing else ""
    return Finding(info.server_version, detail)


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
        advice = f"Missing streams: {', '.join(missing)}. {_WORKER_DOES}" if missing else ""
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


async def _installation(settings: Settings) -> Finding:
    binding = await proved_binding(settings)
    if binding is None:
        return Finding(detail=_NEW, facts={"id": None})
    facts = {
        "id": binding.installation.id,
        "namespace": binding.namespace.name,
        "namespace_id": binding.namespace.id,
        "bound_at": binding.bound_at,
    }
    return Finding(
        detail=f"{binding.installation.short}, bound to namespace {binding.namespace.name}"
        f" since {binding.bound_at:%Y-%m-%d}",
        facts=facts,
    )


async def _stream(login: NatsLogin, stream: Stream) -> Finding:
    with unavailable(login.url):
        async with login.connected() as client:
            jetstream = client.jetstream(timeout=PROBE_SECONDS)
            if flaw := await find_flaw(jetstream, stream):
                return Finding(detail=flaw, advice=f"It {flaw}. {_REPAIR}", facts={"flaw": flaw})
            state = (await jetstream.stream_info(stream.name)).state
    facts = {"messages": state.messages, "bytes": state.bytes, "consumers": state.consumer_count}
    return Finding(
        detail=f"{state.messages} messages, {state.consumer_count} consumers", facts=facts
    )


async def _migrations(settings: Settings) -> Finding:
    url = settings.database_url.get_secret_value()
    return _SCHEMAS[await asyncio.to_thread(schema, url)]


async def _retries(settings: Settings) -> Finding:
    """Never a fault: a failing step is bounded, and then a human is asked."""
    async with records(settings) as reader:
        found = await reader.retries()
    told = "\n".join(retry_lines(found)) or "no step is failing"
    return Finding(detail=told, facts={"retries": [retry_document(retry) for retry in found]})


async def _accounts(settings: Settings) -> Finding:
    """An account that needs a human is a fault; one that waits for its reset is none."""
    async with records(settings) as reader:
        found = await reader.accounts()
    told = "\n".join(map(account_line, found))
    facts = {"accounts": [asdict(each) for each in found]}
    if any(each.needs_human for each in found):
        return Finding(advice=told, facts=facts)
    return Finding(detail=told or "every account can work", facts=facts)


async def _leftovers(settings: Settings) -> Finding:
    """Never a fault: the host of an ended requirement keeps trying to clean up."""
    async with records(settings) as reader:
        found = await reader.leftovers()
    told = "\n".join(f"{each.number}: {leftover_line(each)}" for each in found)
    facts = {"leftovers": [asdict(each) for each in found]}
    return Finding(detail=told or "everything is cleaned up", facts=facts)


async def _workers(settings: Settings) -> Finding:
    client = await temporal_client(settings)
    installation = await installation_of(settings)
    if installation is None:
        return Finding(advice="No worker has run here yet. Start one: python worker.py")
    ours = installation.queues
    queues = {
        ours.central: TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        ours.opening: _ACTIVITIES,
        ours.urgent: _ACTIVITIES,
        ours.agents(settings.host): _ACTIVITIES,
        ours.host(settings.host): _ACTIVITIES,
        ours.tools(settings.host): _ACTIVITIES,
    }
    found = {queue: await _pollers(client, queue, kind) for queue, kind in queues.items()}
    if idle := [queue for queue, count in found.items() if not count]:
        advice = f"No worker serves {', '.join(idle)}. Start one: python worker.py"
        return Finding(advice=advice, facts=found)
    return Finding(detail=f"{found[ours.central]} on {ours.central}", facts=found)


async def _pollers(client: Client, queue: str, kind: TaskQueueType.ValueType = _ACTIVITIES) -> int:
    """How many workers ask for tasks of that queue. Raises: DependencyUnavailable."""
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=kind
    )
    with reaching_temporal(client):
        return len((await client.workflow_service.describe_task_queue(request)).pollers)


async def _health(home: Path) -> Finding:
    try:
        worker = json.loads((home / WORKER_FILE).read_bytes())
        address = worker["health"]
    except FileNotFoundError:
        return Finding(advice="No worker runs in this state directory. Start one: python worker.py")
    if not address:
        return Finding(worker["version"], "reports no health: AGOG_HEALTH_PORT is 0")
    try:
        said = await asyncio.to_thread(_asked, f"{address}/readyz")
    except OSError as error:
        return Finding(advice=f"Its worker, process {worker['pid']}, does not answer: {error}")
    problems = [each["problem"] for each in said["dependencies"] if each["problem"]]
    slots = f"{said['slots']['used']} of {said['slots']['limit']} slots used"
    advice = f"The worker is not ready: {' '.join(problems)}" if problems else ""
    return Finding(worker["version"], slots, advice, said)


def _asked(address: str) -> Mapping[str, Any]:
    """The worker's answer, ready or not. Raises: OSError if it does not answer."""
    try:
        with urllib.request.urlopen(address, timeout=_HEALTH_SECONDS) as answer:
            said = answer.read()
    except urllib.error.HTTPError as refusal:
        said = refusal.read()
    document: Mapping[str, Any] = json.loads(said)
    return document


async def _hosts(settings: Settings) -> Finding:
    """This host, and every host with an open requirement."""
    client = await temporal_client(settings)
    waiting = await _waiting_hosts(settings)
    installation = await installation_of(settings) or Installation("")
    hosts = sorted({settings.host, *waiting})
    queues = installation.queues
    served = await asyncio.gather(*(_is_served(client, queues, host) for host in hosts))
    silent = [host for host, is_served in zip(hosts, served, strict=True) if not is_served]
    lost = [f"{host} ({', '.join(waiting[host][:3])} …)" for host in silent if host in waiting]
    without = f"; without a worker: {', '.join(silent)}" if silent else ""
    return Finding(
        detail=f"{len(hosts) - len(silent)} served{without}",
        advice=f"No worker on {', '.join(lost)}: their requirements wait." if lost else "",
        facts={"hosts": dict(zip(hosts, served, strict=True))},
    )


async def _waiting_hosts(settings: Settings) -> Mapping[str, list[str]]:
    """The open requirements of each host; none while the database is down, which has its check."""
    found: dict[str, list[str]] = {}
    try:
        async with records(settings) as reader:
            opened = await reader.requirements(states=OPEN_STATES)
    except DependencyUnavailable:
        return found
    for each in opened:
        if each.host:
            found.setdefault(each.host, []).append(each.number)
    return found


async def _is_served(client: Client, queues: Queues, host: str) -> bool:
    needed = (queues.agents(host), queues.host(host), queues.tools(host))
    return all([await _pollers(client, queue) for queue in needed])
