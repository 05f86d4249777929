"""The adapters of one host, connected, as the ports of its activities."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from platform import node

from temporalio.client import Client

from adapters import nats_events
from adapters.builds.project_builds import ProjectBuilds
from adapters.care.memory import MemoryCare
from adapters.git import GitWorkspaces
from adapters.health import WorkerFacts, health_endpoint, worker_file
from adapters.installation import Identity, establish
from adapters.local_stack.state import Keeper
from adapters.migrate import upgrade
from adapters.readiness import WatchedDependencies, disk, nats_and_database
from adapters.runs.home_lock import HomeLock
from adapters.runs.host import HostRuns
from adapters.runs.slot_limit import SlotLimit
from adapters.sdlc.database import open_database
from adapters.sdlc_store import create_store
from adapters.temporal_sasha import TemporalSasha
from adapters.temporal_waker import TemporalWaker
from adapters.user_files import find_agents
from hosting.sasha import care_of_cluster, care_of_host, nats_login
from pipeline.model import SashaCall
from pipeline.ports import HostPorts
from settings import Settings


@dataclass(frozen=True)
class Host:
    """This host at work: what its activities ask of the outside world, and who watches that."""

    identity: Identity
    ports: HostPorts
    readiness: WatchedDependencies
    facts: WorkerFacts
    slots: SlotLimit
    memory: MemoryCare


@asynccontextmanager
async def open_host(settings: Settings, client: Client) -> AsyncIterator[Host]:
    """Connect everything and prove whose it is; it is closed when the block ends.

    Raises: DependencyUnavailable, WrongInstallation; RefusedInput for a bad agents file or if a
        worker is running.
    """
    agents = find_agents(settings.agents_file)
    environment = settings.children_environment
    async with AsyncExitStack() as stack:
        stack.enter_context(HomeLock(settings.home))
        database_url = settings.database_url.get_secret_value()
        await asyncio.to_thread(upgrade, database_url)
        database = open_database(database_url)
        stack.push_async_callback(database.close)
        identity = await establish(client, database)
        installation = identity.installation
        store = create_store(database_url, installation.id)
        stack.push_async_callback(store.close)
        login = nats_login(settings)
        publisher = await nats_events.connect(login.url, login.user, login.password)
        stack.push_async_callback(publisher.close)
        await publisher.ensure_streams()
        root = settings.project_root
        slots = SlotLimit(settings.home, settings.max_parallel_stages)
        watched = (
            *nats_and_database(publisher, settings.nats_url, database_url),
            disk(settings.host, settings.home, settings.min_free_disk_bytes),
        )
        sasha = TemporalSasha(client, installation)
        readiness = WatchedDependencies(
            watched, lambda name: sasha.call(SashaCall(settings.host, name))
        )
        memory = MemoryCare(settings.host, slots)
        runs = HostRuns(settings.home, agents, slots, environment)
        house = await stack.enter_async_context(
            care_of_cluster(settings, client, installation, store)
        )
        host = await stack.enter_async_context(
            care_of_host(settings, client, installation, runs, memory)
        )
        ports = HostPorts(
            store=store,
            publisher=publisher,
            waker=TemporalWaker(client),
            sasha=sasha,
            house_care=house,
            host_care=host,
            runs=runs,
            builds=ProjectBuilds(agents, settings.home, environment),
            workspaces=GitWorkspaces(root, settings.home, settings.git_filters) if root else None,
            readiness=readiness,
            agents=agents,
            host=settings.host,
            host_requirements=settings.host_requirements,
            parallel=settings.enable_parallel_execution,
            retry_bound=settings.retry_bound,
            repository=f"{node()}:{root.resolve()}" if root else "",
        )
        facts = WorkerFacts(
            installation.id,
            settings.host,
            version("agog-orchestrator"),
            lambda: (runs.used, slots.current()),
        )
        yield Host(identity, ports, readiness, facts, slots, memory)


def keeper_of(settings: Settings, client: Client) -> Keeper | None:
    """Who keeps the embedded stack that this worker works with; None for servers of others."""
    database_url = settings.database_url.get_secret_value()
    return Keeper.of(settings.home, (client.service_client.config.target_host, database_url))


@asynccontextmanager
async def reporting_health(settings: Settings, host: Host) -> AsyncIterator[str | None]:
    """Say on loopback how this worker is, and in the state directory where; the address."""
    async with AsyncExitStack() as stack:
        address = None
        if settings.health_port:
            endpoint = health_endpoint(settings.health_port, host.readiness, host.facts)
            address = await stack.enter_async_context(endpoint)
        stack.enter_context(worker_file(settings.home, host.facts, address))
        yield address
