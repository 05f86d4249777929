"""Sasha on this host: health checks of cluster and host, and the responder on NATS."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from temporalio.client import Client

from adapters.care.care import Care
from adapters.care.deadlines import DeadlineCare, Extend
from adapters.care.dependencies import Dependencies, cluster_care
from adapters.care.disk import DiskCare, LeftoverCollector, Requirements
from adapters.care.memory import MemoryCare
from adapters.care.orphans import EndedClones, OrphanCare, OrphanedProcesses, OrphanedRuns
from adapters.care.records import RecordCare
from adapters.git import GitWorkspaces
from adapters.installation import Identity
from adapters.readiness import free_bytes
from adapters.responder import Extensions, Responder
from adapters.rule_engine import PolicyHook, RuleEngine
from adapters.sdlc.database import open_database
from adapters.sdlc.reader import create_reader
from adapters.sdlc.rule_facts import create_rule_facts
from adapters.sdlc.store import PostgresSdlcStore
from adapters.temporal.messages import TemporalExtender
from hosting.logins import nats_login
from pipeline.agents_file import AgentsFile
from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation, Queues
from pipeline.model import SASHA, ExtensionRequest, SashaCall
from pipeline.ports import AgentRuns, HostPorts
from pipeline.runbook import CHECK_INTERVAL
from settings import Settings
from workflows.requirement import RequirementWorkflow
from workflows.starting import start_requirement

log = logging.getLogger(__name__)

_MEMORY_SECONDS = 10.0
_BETWEEN_CALLS_SECONDS = 60.0
"""A shortage that comes and goes does not fill her history."""
_ACT_SECONDS = 90.0
"""Until a host's repair must be over: an agent may take 15 s to end, a tree of files a minute."""


async def check_regularly(ports: HostPorts) -> None:
    """Have Sasha look at the cluster and at this host, now and at intervals, for ever."""
    while True:
        try:
            await ports.sasha.call(SashaCall(ports.host))
        except DependencyUnavailable as error:
            log.warning("%s", error)
        await asyncio.sleep(CHECK_INTERVAL.total_seconds())


async def watch_memory(ports: HostPorts, memory: MemoryCare) -> None:
    """Call Sasha when this host's memory gets short, and give its slots back afterwards, for ever.

    She halves the slots and records the incident; a shortage that lasts is seen by her own checks.
    """
    clock = asyncio.get_running_loop()
    called_at, was_short = -math.inf, False
    while True:
        if raised := await memory.relax():
            log.info("%s", raised)
        is_short = bool(await memory.look())
        begins, was_short = is_short and not was_short, is_short
        if begins and clock.time() - called_at >= _BETWEEN_CALLS_SECONDS:
            called_at = clock.time()
            try:
                await ports.sasha.call(SashaCall(ports.host))
            except DependencyUnavailable as error:
                log.warning("%s", error)
        await asyncio.sleep(_MEMORY_SECONDS)


@asynccontextmanager
async def care_of_cluster(
    settings: Settings, client: Client, installation: Installation, store: PostgresSdlcStore
) -> AsyncIterator[Care]:
    """Dependencies and records; its connection is closed when the block ends."""
    database_url = settings.database_url.get_secret_value()
    database = open_database(database_url, installation.id)
    try:
        dependencies = Dependencies(
            settings.home,
            nats_login(settings),
            database_url,
            settings.restart_nats_argv,
            settings.restart_database_argv,
            settings.children_environment,
        )
        identity = Identity(client, database, installation)
        records = RecordCare(identity, store, database, start_requirement)
        yield cluster_care(dependencies, records)
    finally:
        await database.close()


@asynccontextmanager
async def care_of_host(
    settings: Settings,
    client: Client,
    installation: Installation,
    runs: AgentRuns,
    memory: MemoryCare,
) -> AsyncIterator[Care]:
    """Memory, disk, deadlines and orphans; its connection is closed when the block ends."""
    reader = create_reader(settings.database_url.get_secret_value(), installation.id)
    try:
        yield host_care(
            settings.home,
            settings.host,
            project_root=settings.project_root,
            filters=settings.git_filters,
            min_free_bytes=settings.min_free_disk_bytes,
            requirements=reader,
            runs=runs,
            memory=memory,
            extend=_Extend(client, installation.queues),
        )
    finally:
        await reader.close()


def host_care(
    home: Path,
    host: str,
    *,
    project_root: Path | None,
    filters: Sequence[str] = (),
    min_free_bytes: int,
    requirements: Requirements,
    runs: AgentRuns,
    memory: MemoryCare,
    extend: Extend,
    free: Callable[[Path], int] = free_bytes,
) -> Care:
    """The care of the host with that state directory and name.

    `filters` are those that git may run; `requirements` says what has ended, `runs` ends agents,
    and `extend` moves a deadline. `free` measures the disk.
    """
    workspaces = GitWorkspaces(project_root, home, filters) if project_root else None
    collector = LeftoverCollector(home, requirements, workspaces)
    clones = (EndedClones(home, requirements, workspaces),) if workspaces else ()
    return Care(
        memory,
        DiskCare(home, host, collector, min_free_bytes, free),
        DeadlineCare(home, extend),
        OrphanCare(OrphanedRuns(home, requirements, runs)),
        OrphanCare(OrphanedProcesses(home, requirements)),
        *map(OrphanCare, clones),
        act_seconds=_ACT_SECONDS,
    )


class _Extend:
    """Deadlines are moved by the requirement's workflow, which records who did it and why."""

    def __init__(self, client: Client, queues: Queues) -> None:
        self._extender = TemporalExtender(client, queues, RequirementWorkflow.extend)

    async def __call__(self, run_id: str, minutes: float, reason: str) -> None:
        """Move a run's deadline by that much. Raises: RefusedInput, DependencyUnavailable."""
        number, _, rest = run_id.partition("/")
        stage = rest.partition("/")[2].rpartition("/")[0]
        request = ExtensionRequest(stage, minutes, SASHA, reason)
        await self._extender.extend(number, request, f"{run_id} {reason}")


@asynccontextmanager
async def responding(
    settings: Settings, client: Client, queues: Queues, agents: AgentsFile
) -> AsyncIterator[None]:
    """Answer questions and requests for more time until the block ends.

    Raises: DependencyUnavailable.
    """
    facts = create_rule_facts(settings.database_url.get_secret_value())
    hook = agents.sasha and PolicyHook(
        agents.sasha, agents.directory, settings.children_environment
    )
    extender = TemporalExtender(client, queues, RequirementWorkflow.extend)
    engine = RuleEngine(facts, hook.advise if hook else None)
    responder = Responder(nats_login(settings), engine, Extensions(facts, extender))
    async with AsyncExitStack() as stack:
        stack.push_async_callback(facts.close)
        await responder.start()
        stack.push_async_callback(responder.stop)
        yield
