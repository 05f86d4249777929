"""The adapters of one host, connected, as the ports of its activities."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version

from temporalio.client import Client

from adapters import nats_events
from adapters.builds import ProjectBuilds
from adapters.health import WorkerFacts, health_endpoint, worker_file
from adapters.migrate import upgrade
from adapters.readiness import WatchedDependencies, nats_and_database
from adapters.runs.home_lock import HomeLock
from adapters.runs.host import HostRuns
from adapters.runs.slot_limit import SlotLimit
from adapters.sdlc_store import create_store
from adapters.temporal_sasha import TemporalSasha
from adapters.temporal_waker import TemporalWaker
from adapters.user_files import find_agents
from adapters.workspaces import GitWorkspaces
from hosting.caring import care_of_host, care_of_house, nats_login
from pipeline.model import SashaCall
from pipeline.ports import HostPorts
from settings import Settings
from workflows import options


@dataclass(frozen=True)
class Host:
    """This host at work: what its activities ask of the outside world, and who watches that."""

    ports: HostPorts
    readiness: WatchedDependencies
    facts: WorkerFacts
    sasha: TemporalSasha


@asynccontextmanager
async def open_host(settings: Settings, client: Client) -> AsyncIterator[Host]:
    """Connect everything; it is closed when the block ends.

    Raises: DependencyUnavailable; RefusedInput for a bad agents file or if a worker is running.
    """
    agents = find_agents(settings.agents_file)
    environment = settings.children_environment
    async with AsyncExitStack() as stack:
        stack.enter_context(HomeLock(settings.home))
        database_url = settings.database_url.get_secret_value()
        await asyncio.to_thread(upgrade, database_url)
        store = create_store(database_url)
        stack.push_async_callback(store.close)
        login = nats_login(settings)
        publisher = await nats_events.connect(login.url, login.user, login.password)
        stack.push_async_callback(publisher.close)
        await publisher.ensure_streams()
        root = settings.project_root
        slots = SlotLimit(settings.home, settings.max_parallel_stages)
        watched = nats_and_database(publisher, settings.nats_url, database_url)
        sasha = TemporalSasha(client, options.CENTRAL_QUEUE)
        readiness = WatchedDependencies(
            watched, lambda name: sasha.call(SashaCall(settings.host, name))
        )
        runs = HostRuns(settings.home, agents, slots, environment)
        house = await stack.enter_async_context(care_of_house(settings, client, store))
        host = await stack.enter_async_context(care_of_host(settings, client, runs, slots))
        ports = HostPorts(
            store=store,
            publisher=publisher,
            waker=TemporalWaker(client),
            sasha=sasha,
            house_care=house,
            host_care=host,
            runs=runs,
            builds=ProjectBuilds(agents, settings.home, environment),
            workspaces=GitWorkspaces(root, settings.home) if root else None,
            readiness=readiness,
            agents=agents,
            host=settings.host,
            host_requirements=settings.host_requirements,
            parallel=settings.enable_parallel_execution,
        )
        facts = WorkerFacts(
            settings.host,
            version("agog-orchestrator"),
            lambda: (runs.used, slots.current()),
        )
        yield Host(ports, readiness, facts, sasha)


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
