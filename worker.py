"""The worker process and composition root: settings -> adapters -> activities -> Workers."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.runtime import Runtime
from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    Interceptor,
    UnsandboxedWorkflowRunner,
    Worker,
    WorkerTuner,
    WorkflowRunner,
)

from activities import Activities, all_activities
from activities.cleaning import clean_leftovers
from activities.interceptor import HouseInterceptor
from adapters.local_stack.state import Keeper
from adapters.runs.inventory import has_agents
from adapters.runs.slot_limit import MOST_SLOTS, SlotLimit
from adapters.runs.slots import WAITING_ROOM
from adapters.temporal_client import connect, quiet_runtime
from hosting.host import Host, keeper_of, open_host, reporting_health
from hosting.room import RoomSupplier
from hosting.sasha import check_regularly, responding, watch_memory
from pipeline.errors import DependencyUnavailable, PipelineError
from pipeline.installation import Queues
from pipeline.ports import HostPorts
from settings import BadSettings, Settings, load_settings
from workflows.infrastructure import InfrastructureWorkflow
from workflows.requirement import RequirementWorkflow
from workflows.sasha import SashaWorkflow
from workflows.strategic import StrategicOrchestratorWorkflow

log = logging.getLogger("agog.worker")

PUBLISH_INTERVAL_SECONDS = 30.0
"""How often events are looked for that a cancelled or terminated workflow left unpublished."""

KEEPER_SECONDS = 1.0
"""How often the worker of an embedded stack looks whether its `up` lives."""

WORKFLOWS = (
    RequirementWorkflow,
    StrategicOrchestratorWorkflow,
    SashaWorkflow,
    InfrastructureWorkflow,
)
_TASKS = 100  # of workflows and local activities at once: the SDK's own default
_CENTRAL_SLOTS = 100
_OPENING_SLOTS = 4
# Slots bound the agents, and who waits for one is elsewhere: never full, it takes back what runs.
_AGENT_SLOTS = 4 * MOST_SLOTS
_HOST_SLOTS = 100  # brief, but for one look of Sasha's at a time
_TOOL_SLOTS = max(2, os.cpu_count() or 2)  # git and builds use the machine: a bound of their own


def build_workers(
    client: Client, queues: Queues, ports: HostPorts, runner: WorkflowRunner | None = None
) -> Sequence[Worker]:
    """The Workers of one host; the tests run these very ones, with the sandbox on."""
    lists = all_activities(ports)
    host = ports.host

    async def has_room() -> bool:
        return await ports.store.has_room(host, ports.host_requirements)

    make = partial(_worker, client, HouseInterceptor(ports))
    return (
        make(queues.central, lists.central, _CENTRAL_SLOTS, runner or _runner()),
        make(queues.opening, lists.opening, RoomSupplier(has_room)),
        make(queues.urgent, lists.opening, _OPENING_SLOTS),
        make(queues.agents(host), lists.agents, _AGENT_SLOTS),
        make(queues.waiting(host), lists.waiting, WAITING_ROOM),
        make(queues.host(host), lists.host, _HOST_SLOTS),
        make(queues.tools(host), lists.tools, _TOOL_SLOTS),
    )


def _runner() -> WorkflowRunner:
    # The sandbox costs a fifth of the worker's time; the tests keep it on over the same code.
    return UnsandboxedWorkflowRunner()


def _worker(
    client: Client,
    interceptor: Interceptor,
    queue: str,
    activities: Activities,
    slots: int | CustomSlotSupplier,
    runner: WorkflowRunner | None = None,
) -> Worker:
    tasks = FixedSizeSlotSupplier(_TASKS)
    return Worker(
        client,
        task_queue=queue,
        workflows=WORKFLOWS if runner else [],
        workflow_runner=runner or _runner(),
        activities=activities,
        interceptors=[interceptor],
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


async def publish_forgotten(ports: HostPorts) -> None:
    """Send out, for ever and at intervals, what no running activity will publish."""
    while True:
        try:
            for number in await ports.store.numbers_with_pending_events():
                await ports.publish(number)
        except DependencyUnavailable as error:
            log.warning("Events wait: %s", error)
        await asyncio.sleep(PUBLISH_INTERVAL_SECONDS)


async def tell_usage(ports: HostPorts) -> None:
    """Say how many slots are used, for ever, to those who wait for one."""
    async for usage in ports.runs.usages():
        try:
            await ports.store.record_usage(ports.host, usage)
        except DependencyUnavailable as error:
            log.warning("What is said of slots may be old: %s", error)


async def serve(settings: Settings) -> None:
    """Run this host's worker until SIGTERM or SIGINT; agents in flight are left alone."""
    Runtime.set_default(quiet_runtime("temporal.core"), error_if_already_set=False)
    client = await connect(settings.temporal_address)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keeper = keeper_of(settings, client)
    async with open_host(settings, client) as host, reporting_health(settings, host) as address:
        if address:
            log.info("Health: %s/readyz", address)
        await _serve(settings, client, host, keeper, stop)


async def _serve(
    settings: Settings, client: Client, host: Host, keeper: Keeper | None, stop: asyncio.Event
) -> None:
    async with AsyncExitStack() as stack:
        log.info(
            "Orchestrator initialized - Parallelization: %s",
            "ENABLED" if host.ports.parallel else "DISABLED",
        )
        queues = host.identity.installation.queues
        for worker in build_workers(client, queues, host.ports):
            await stack.enter_async_context(worker)
        await stack.enter_async_context(responding(settings, client, queues, host.ports.agents))
        short = host.identity.installation.short
        log.info("Host %s is ready, of installation %s", host.ports.host, short)
        tasks = [
            host.readiness.watch(),
            publish_forgotten(host.ports),
            tell_usage(host.ports),
            clean_leftovers(host.ports),
            check_regularly(host.ports),
            watch_memory(host.ports, host.memory),
            host.identity.watch_database(),
            host.identity.watch_namespace(),
        ]
        if keeper:
            tasks.append(until_orphaned(keeper, settings.home, host.slots))
        await until_either(stop, *map(asyncio.create_task, tasks))
        log.info("Stopping; agents in flight go on and are found again")


async def until_orphaned(keeper: Keeper, home: Path, slots: SlotLimit) -> None:
    """Return when the worker of an embedded stack has to end, because its `up` has.

    Its agents may end first, and what they did is recorded if the servers live; none is started.
    At once when a new `up` runs, whose worker waits for the state directory.
    """
    while not await asyncio.to_thread(lambda: keeper.has_gone):  # noqa: ASYNC110 -- no Event
        await asyncio.sleep(KEEPER_SECONDS)
    log.warning(
        "`starter.py up` (process %d) has gone: no agent is started any more, and this worker ends"
        " when those that run have ended. The next `up` goes on",
        keeper.identity.pid,
    )
    slots.close()
    while await asyncio.to_thread(lambda: not keeper.is_replaced and has_agents(home)):  # noqa: ASYNC110
        await asyncio.sleep(KEEPER_SECONDS)


async def until_either(stop: asyncio.Event, *endless: asyncio.Task[None]) -> None:
    """Serve until told to stop, or until one of the others ends. Raises: what has ended it."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait({stopping, *endless}, return_when=asyncio.FIRST_COMPLETED)
    for task in (stopping, *endless):
        task.cancel()
    for task in done & set(endless):
        task.result()


def configure_logging(level: str) -> None:
    """Log to stderr, one line each; the guide's lines stand as they are."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)  # it would tell of every look
    workflow.logger.workflow_info_on_message = False
    activity.logger.activity_info_on_message = False


def main() -> int:
    """Run the worker; returns the exit code."""
    configure_logging("INFO")
    try:
        settings = load_settings()
        configure_logging(settings.log_level)
        asyncio.run(serve(settings))
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
