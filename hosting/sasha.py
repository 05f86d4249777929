"""Sasha on this host: health checks of cluster and host, and the responder on NATS."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from temporalio.client import Client

from adapters.host_care.care import HostCare
from adapters.host_care.making import host_care
from adapters.house_care import Dependencies, HouseCare, RecordCare, house_care
from adapters.installation import Identity
from adapters.probes import NatsLogin
from adapters.responder import Extensions, Responder
from adapters.rule_engine import PolicyHook, RuleEngine
from adapters.rule_facts import create_rule_facts
from adapters.runs.slot_limit import SlotLimit
from adapters.sdlc.database import open_database
from adapters.sdlc_reader import create_reader
from adapters.sdlc_store import PostgresSdlcStore
from adapters.temporal_extender import TemporalExtender
from pipeline.agents_file import AgentsFile
from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation, Queues
from pipeline.model import SASHA, ExtensionRequest, SashaCall
from pipeline.ports import AgentRuns, HostPorts
from pipeline.remedies import CHECK_INTERVAL
from settings import Settings
from workflows.requirement import RequirementWorkflow
from workflows.starting import start_requirement

log = logging.getLogger(__name__)


def nats_login(settings: Settings) -> NatsLogin:
    """How this installation signs in to NATS."""
    password = settings.nats_password.get_secret_value() if settings.nats_password else None
    return NatsLogin(settings.nats_url, settings.nats_user, password)


async def check_regularly(ports: HostPorts) -> None:
    """Have Sasha look at the cluster and at this host, now and at intervals, for ever."""
    while True:
        try:
            await ports.sasha.call(SashaCall(ports.host))
        except DependencyUnavailable as error:
            log.warning("%s", error)
        await asyncio.sleep(CHECK_INTERVAL.total_seconds())


@asynccontextmanager
async def care_of_house(
    settings: Settings, client: Client, installation: Installation, store: PostgresSdlcStore
) -> AsyncIterator[HouseCare]:
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
        yield house_care(dependencies, records)
    finally:
        await database.close()


@asynccontextmanager
async def care_of_host(
    settings: Settings,
    client: Client,
    installation: Installation,
    runs: AgentRuns,
    slots: SlotLimit,
) -> AsyncIterator[HostCare]:
    """Disk, load, deadlines and orphans; its connection is closed when the block ends."""
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
            slots=slots,
            extend=_Extend(client, installation.queues),
        )
    finally:
        await reader.close()


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
