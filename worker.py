"""The worker process and composition root: settings -> adapters -> activities -> Workers."""

import asyncio
import logging
import os
import signal
import sys
from argparse import ArgumentParser
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib.metadata import version
from pathlib import Path
from platform import node

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    Interceptor,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerDeploymentConfig,
    WorkerTuner,
)

from activities import Activities, all_activities
from activities.delivery import clean_leftovers, clean_once
from activities.interceptor import ActivityInterceptor
from activities.moving import MovingActivities
from adapters.builds.project_builds import ProjectBuilds
from adapters.care.memory import MemoryCare
from adapters.current_agents import CurrentAgents
from adapters.git import GitWorkspaces
from adapters.health import WorkerFacts, health_endpoint, worker_file
from adapters.installation import Identity, establish
from adapters.local_stack.state import Keeper
from adapters.locks import home_lock
from adapters.nats import events as nats_events
from adapters.programs import await_children_by_descriptor
from adapters.pull_requests import PullRequestCommands
from adapters.readiness import WatchedDependencies, disk, nats_and_database
from adapters.remote.desk import Record, attend
from adapters.runs.host import HostRuns
from adapters.runs.inventory import has_agents
from adapters.runs.prompts import HostPrompts, read_templates
from adapters.runs.resources import RunResources
from adapters.runs.slots import MOST_SLOTS, WAITING_ROOM, SlotLimit
from adapters.sdlc.database import open_database
from adapters.sdlc.migrate import upgrade
from adapters.sdlc.store import create_store
from adapters.temporal.client import connect, quiet_runtime
from adapters.temporal.deployment import deployment_config, offer_build
from adapters.temporal.messages import TemporalNotifier, TemporalSasha
from hosting.agent_host import serve_agents
from hosting.logins import nats_login
from hosting.lost_hosts import LostHosts, share_at_intervals
from hosting.sasha import (
    care_of_cluster,
    care_of_host,
    check_regularly,
    responding,
    watch_memory,
)
from pipeline.errors import DependencyUnavailable, PipelineError
from pipeline.installation import Installation
from pipeline.model import SashaCall
from pipeline.ports import HostPorts
from settings import PROMPTS, BadSettings, Settings, load_settings
from workflows.infrastructure import InfrastructureWorkflow
from workflows.requirement import RequirementWorkflow
from workflows.sasha import SashaWorkflow
from workflows.strategic import StrategicOrchestratorWorkflow

log = logging.getLogger("agog.worker")

PUBLISH_INTERVAL_SECONDS = 30.0
"""How often to look for events that a cancelled or terminated workflow left unpublished."""

ROOM_INTERVAL_SECONDS = 1.0
"""How often a full host checks whether one of its requirements has ended."""

KEEPER_SECONDS = 1.0
"""How often the worker of an embedded stack checks that its `up` lives."""

WORKFLOWS = (
    RequirementWorkflow,
    StrategicOrchestratorWorkflow,
    SashaWorkflow,
    InfrastructureWorkflow,
)
# The sandbox imports the workflows again for each run: docs/architecture.md has the figure. A
# linter rule forbids what it would refuse, and the recorded histories are replayed in it.
WORKFLOW_RUNNER = UnsandboxedWorkflowRunner()
_TASKS = 100  # of workflows and local activities at once: the SDK's own default
_TASK_SECONDS = 60  # of a workflow task, before it counts as a deadlock
_CENTRAL_SLOTS = 100
_OPENING_SLOTS = 4
# Slots bound the agents, and queued stages wait elsewhere. So this is never full, and a restarted
# worker takes back every running agent.
_AGENT_SLOTS = 4 * MOST_SLOTS
_HOST_SLOTS = 100  # brief calls, except one check of Sasha's at a time
_TOOL_SLOTS = max(2, os.cpu_count() or 2)  # git and builds load the machine: their own bound


# --- this host ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """This host, connected: the ports of its activities, and what the worker itself uses."""

    identity: Identity
    ports: HostPorts
    readiness: WatchedDependencies
    facts: WorkerFacts
    slots: SlotLimit
    memory: MemoryCare
    agents: CurrentAgents
    record_deliverable: Record
    lost_hosts: LostHosts


@asynccontextmanager
async def open_host(settings: Settings, client: Client) -> AsyncIterator[Host]:
    """Connect everything and prove its identity; it is closed when the block ends.

    Raises: DependencyUnavailable, WrongInstallation; RefusedInput for a bad agents file or prompt
        template, or if a worker is running.
    """
    templates = read_templates(PROMPTS)
    environment = settings.children_environment
    agents = CurrentAgents(settings.agents_file, settings.home, environment)
    async with AsyncExitStack() as stack:
        stack.enter_context(home_lock(settings.home))
        database_url = settings.database_url.get_secret_value()
        await asyncio.to_thread(upgrade, database_url)
        database = open_database(database_url)
        stack.push_async_callback(database.close)
        identity = await establish(client, database)
        installation = identity.installation
        fenced = settings.host if settings.host_lost_after else ""
        store = create_store(database_url, installation.id, fenced)
        stack.push_async_callback(store.close)
        lost_hosts = LostHosts(store, settings.host, settings.host_lost_after)
        # Before anything is taken: what has moved meanwhile is not ours.
        await stack.enter_async_context(lost_hosts.beating())
        await store.set_day_budget(settings.day_budget_usd, settings.day_warning_usd)
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
        resources = RunResources(settings.home, settings.run_ports)
        runs = HostRuns(settings.home, agents, slots, environment, resources)
        await asyncio.to_thread(runs.remove_leftovers)
        cluster = await stack.enter_async_context(
            care_of_cluster(settings, client, installation, store)
        )
        host = await stack.enter_async_context(
            care_of_host(settings, client, installation, runs, memory)
        )
        workspaces = (
            GitWorkspaces(
                root,
                settings.home,
                settings.git_filters,
                lambda: agents().delivery.author,
                settings.shared_repository,
                settings.host,
            )
            if root
            else None
        )
        requests = PullRequestCommands(agents, settings.home, root, environment) if root else None
        prompts = HostPrompts(
            templates, agents, settings.home, settings.host, workspaces, environment
        )
        ports = HostPorts(
            store=store,
            publisher=publisher,
            notifier=TemporalNotifier(client),
            sasha=sasha,
            cluster_care=cluster,
            host_care=host,
            runs=runs,
            prompts=prompts,
            builds=ProjectBuilds(agents, settings.home, environment, resources),
            pull_requests=requests,
            workspaces=workspaces,
            readiness=readiness,
            agents=agents,
            host=settings.host,
            host_requirements=settings.host_requirements,
            parallel=settings.enable_parallel_execution,
            retry_bound=settings.retry_bound,
            repository=f"{node()}:{root.resolve()}" if root else "",
            moved=lost_hosts.moved,
        )
        facts = WorkerFacts(
            installation.id,
            settings.host,
            settings.worker_build_id or version("agog-orchestrator"),
            str(root.resolve()) if root else "",
            lambda: (runs.used, slots.current()),
        )
        yield Host(
            identity,
            ports,
            readiness,
            facts,
            slots,
            memory,
            agents,
            store.record_deliverable,
            lost_hosts,
        )


# --- its Workers ----------------------------------------------------------------------------------


def build_workers(
    client: Client,
    installation: Installation,
    ports: HostPorts,
    build_id: str = "",
) -> Sequence[Worker]:
    """The Workers of one host; the tests run the same ones, with the sandbox on.

    With a build id those that hosts share take only what belongs to that build.
    """
    queues = installation.queues
    lists = all_activities(ports)
    host = ports.host

    async def has_room() -> bool:
        return await ports.store.has_room(host, ports.host_requirements)

    make = partial(_worker, client, ActivityInterceptor(ports, is_of_host=True))
    shared = partial(
        _worker,
        client,
        ActivityInterceptor(ports),
        deployment=deployment_config(installation, build_id),
    )
    return (
        shared(queues.central, lists.central, _CENTRAL_SLOTS, WORKFLOWS),
        shared(queues.opening, lists.opening, RoomSupplier(has_room)),
        shared(queues.urgent, lists.opening, _OPENING_SLOTS),
        make(queues.agents(host), lists.agents, _AGENT_SLOTS),
        make(queues.waiting(host), lists.waiting, WAITING_ROOM),
        make(queues.host(host), lists.host, _HOST_SLOTS),
        make(queues.tools(host), lists.tools, _TOOL_SLOTS),
    )


def workers_of_lost(
    client: Client, installation: Installation, ports: HostPorts, lost: str, beat: str
) -> Sequence[Worker]:
    """The Workers that take what waits for a lost host; `beat` is the last that it has told."""
    queues, interceptor = installation.queues, ActivityInterceptor(ports)
    moving = (MovingActivities(ports, lost, beat).move,)
    of_host = (queues.agents(lost), queues.waiting(lost), queues.host(lost), queues.tools(lost))
    return [_worker(client, interceptor, queue, moving, _OPENING_SLOTS) for queue in of_host]


def _worker(
    client: Client,
    interceptor: Interceptor,
    queue: str,
    activities: Activities,
    slots: int | CustomSlotSupplier,
    workflows: Sequence[type] = (),
    deployment: WorkerDeploymentConfig | None = None,
) -> Worker:
    tasks = FixedSizeSlotSupplier(_TASKS)
    made = Worker(
        client,
        task_queue=queue,
        workflows=workflows,
        workflow_runner=WORKFLOW_RUNNER,
        activities=activities,
        interceptors=[interceptor],
        deployment_config=deployment,
        tuner=WorkerTuner.create_composite(
            workflow_supplier=tasks,
            activity_supplier=FixedSizeSlotSupplier(slots) if isinstance(slots, int) else slots,
            local_activity_supplier=tasks,
            nexus_supplier=tasks,
        ),
        # After a kill -9 the next worker gets the workflow's tasks after this, not after 10 s.
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=1),
        # A cancellation reaches an activity with the next heartbeat that is really sent.
        max_heartbeat_throttle_interval=timedelta(milliseconds=500),
        default_heartbeat_throttle_interval=timedelta(milliseconds=500),
        graceful_shutdown_timeout=timedelta(seconds=1),
    )
    # Without an option of the SDK's: it takes a workflow task of two seconds for a deadlock, throws
    # into its thread and runs the eviction in a second one. A host that builds may be that busy.
    if made._workflow_worker:
        made._workflow_worker._deadlock_timeout_seconds = _TASK_SECONDS
    return made


class RoomSupplier(CustomSlotSupplier):
    """Lets a Worker poll for one opening at a time, and only while the host has room.

    A full host does not poll, so Temporal keeps the openings, the most urgent first. The SDK
    reserves a slot before it polls. While the database is down there is always room: the opening
    then pauses at its checkpoint, where everybody sees it.
    """

    def __init__(self, has_room: Callable[[], Awaitable[bool]]) -> None:
        self._has_room = has_room
        self._door = asyncio.Semaphore()
        self._loop: asyncio.AbstractEventLoop | None = None

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Wait until the previous opening is done and there is room for another one."""
        self._loop = asyncio.get_running_loop()
        await self._door.acquire()
        try:
            with suppress(DependencyUnavailable):
                # Any process may end a requirement, so there is no event here to wait for.
                while not await self._has_room():  # noqa: ASYNC110
                    await asyncio.sleep(ROOM_INTERVAL_SECONDS)
        except BaseException:
            self._door.release()
            raise
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Never take an opening without the check for room."""
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """Nothing to do: there is another check before the next opening."""

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """Allow the next poll. Called from a thread of the SDK."""
        if self._loop and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._door.release)


# --- serving --------------------------------------------------------------------------------------


async def publish_forgotten(ports: HostPorts) -> None:
    """Publish at intervals, forever, the events that no running activity will publish.

    Questions about accounts and budgets are asked again by then: no workflow waits for an answer.
    """
    while True:
        try:
            await ports.store.remind_of_holds(datetime.now(UTC))
            for number in await ports.store.numbers_with_pending_events():
                await ports.publish(number)
        except DependencyUnavailable as error:
            log.warning("Events wait: %s", error)
        await asyncio.sleep(PUBLISH_INTERVAL_SECONDS)


async def tell_usage(ports: HostPorts) -> None:
    """Record slot usage, forever, for the people who wait for a slot."""
    async for usage in ports.runs.usages():
        try:
            await ports.store.record_usage(ports.host, usage)
        except DependencyUnavailable as error:
            log.warning("The slot usage shown may be old: %s", error)


async def serve(settings: Settings) -> None:
    """Run this host's worker until SIGTERM or SIGINT; running agents continue."""
    await_children_by_descriptor()
    Runtime.set_default(quiet_runtime("temporal.core"), error_if_already_set=False)
    client = await connect(settings.temporal_address)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # None if the worker does not use an embedded stack.
    addresses = (client.service_client.config.target_host, settings.database_url.get_secret_value())
    keeper = Keeper.of(settings.home, addresses)
    async with open_host(settings, client) as host, AsyncExitStack() as stack:
        address = None
        if settings.health_port:
            endpoint = health_endpoint(settings.health_port, host.readiness, host.facts)
            address = await stack.enter_async_context(endpoint)
            log.info("Health: %s/readyz", address)
        stack.enter_context(worker_file(settings.home, host.facts, address))
        log.info(
            "Orchestrator initialized - Parallelization: %s",
            "ENABLED" if host.ports.parallel else "DISABLED",
        )
        if settings.host_lost_after and not settings.shared_repository:
            log.warning(
                "AGOG_HOST_LOST_AFTER is set without AGOG_SHARED_REPOSITORY: nothing can move from"
                " this host if it is lost, and a human is asked"
            )
        installation, build_id = host.identity.installation, settings.worker_build_id
        for worker in build_workers(client, installation, host.ports, build_id=build_id):
            await stack.enter_async_context(worker)
        if build_id:
            await offer_build(client, installation, build_id)
        await stack.enter_async_context(
            responding(settings, client, installation.queues, host.agents())
        )
        # A connection of its own: what agents send may do no harm to others.
        desk = await stack.enter_async_context(nats_login(settings).connected())
        log.info("Host %s is ready, of installation %s", host.ports.host, installation.short)
        desk_name = f"agog-desk-{installation.short}"
        tasks = [
            attend(desk, desk_name, host.record_deliverable, host.ports.publish),
            host.readiness.watch(),
            publish_forgotten(host.ports),
            tell_usage(host.ports),
            clean_leftovers(host.ports),
            check_regularly(host.ports),
            watch_memory(host.ports, host.memory),
            host.agents.watch(),
            host.lost_hosts.watch(
                partial(workers_of_lost, client, installation, host.ports),
                partial(clean_once, host.ports),
            ),
            share_at_intervals(host.ports),
            host.identity.watch_database(),
            host.identity.watch_namespace(),
        ]
        if keeper:
            tasks.append(until_orphaned(keeper, settings.home, host.slots))
        await until_either(stop, *map(asyncio.create_task, tasks))
        log.info("Stopping; running agents continue and are found again")


async def until_orphaned(keeper: Keeper, home: Path, slots: SlotLimit) -> None:
    """Return when the worker of an embedded stack must end because its `up` has ended.

    No agent is started any more. Running agents may end first, and their results are recorded if
    the servers live. If a new `up` runs, return at once: its worker waits for the state directory.
    """
    while not await asyncio.to_thread(lambda: keeper.has_gone):  # noqa: ASYNC110 -- no Event
        await asyncio.sleep(KEEPER_SECONDS)
    log.warning(
        "`starter.py up` (process %d) has gone: no agent is started any more, and this worker ends"
        " when those that run have ended. The next `up` continues",
        keeper.identity.pid,
    )
    slots.close()
    while await asyncio.to_thread(lambda: not keeper.is_replaced and has_agents(home)):  # noqa: ASYNC110
        await asyncio.sleep(KEEPER_SECONDS)


async def until_either(stop: asyncio.Event, *endless: asyncio.Task[None]) -> None:
    """Serve until told to stop, or until one of the others ends. Raises: what ended it."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopping, *endless}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, *endless):
        task.cancel()
    for task in done & set(endless):
        task.result()


def configure_logging(level: str) -> None:
    """Log to stderr, one line per record, the message unchanged."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it logs every check
    workflow.logger.workflow_info_on_message = False
    activity.logger.activity_info_on_message = False


ROLES = {"worker": serve, "agent-host": serve_agents}
"""What the process may be: a host of requirements, or one of agents of another installation."""


def main() -> int:
    """Run the worker; returns the exit code."""
    parser = ArgumentParser(description="The worker of a host, or an agent host.")
    parser.add_argument("--role", choices=ROLES, default="worker", help="default: %(default)s")
    role = parser.parse_args().role
    configure_logging("INFO")
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        asyncio.run(ROLES[role](settings))
    except DependencyUnavailable as error:
        log.error("%s", error)
        return 6
    except (PipelineError, BadSettings) as error:
        log.error("%s", error)
        return 2
    return 0


if __name__ == "__main__":
    code = main()
    logging.shutdown()
    # The SDK's threads can abort the interpreter while it finalizes; nothing is left to do.
    os._exit(code)
