"""Who looks after the house and after this host."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client

from adapters.host_care.care import HostCare
from adapters.host_care.making import host_care
from adapters.house_care import Dependencies, HouseCare, RecordCare, house_care
from adapters.installation import Identity
from adapters.nats.connection import NatsLogin
from adapters.runs.slots import SlotLimit
from adapters.sdlc.database import open_database
from adapters.sdlc.reader import create_reader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.temporal.messages import TemporalExtender
from pipeline.installation import Installation, Queues
from pipeline.model import SASHA, ExtensionRequest
from pipeline.ports import AgentRuns
from settings import Settings
from workflows.requirement import RequirementWorkflow
from workflows.starting import start_requirement


def nats_login(settings: Settings) -> NatsLogin:
    """How this installation signs in to NATS."""
    password = settings.nats_password.get_secret_value() if settings.nats_password else None
    return NatsLogin(settings.nats_url, settings.nats_user, password)


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
