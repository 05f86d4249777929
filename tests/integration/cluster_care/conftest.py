"""Records that a health_checks compares with Temporal."""

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from adapters.care.records import RecordCare
from adapters.installation import establish
from adapters.local_stack import StackAddresses
from adapters.sdlc.database import open_database
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.temporal.client import DATA_CONVERTER
from tests.namespaces import create_namespace
from tests.records import Records, Scripted
from workflows.starting import start_requirement


@pytest.fixture
async def records(
    stack: StackAddresses,
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    database_url: str,
) -> AsyncIterator[Records]:
    namespace = f"records-{uuid.uuid4().hex[:8]}"
    await create_namespace(stack.temporal_address, namespace)
    client = await Client.connect(
        stack.temporal_address, namespace=namespace, data_converter=DATA_CONVERTER
    )
    database = open_database(database_url)
    identity = await establish(client, database)
    care = RecordCare(identity, sdlc_store, database, start_requirement, grace=timedelta())
    worker = Worker(
        client,
        task_queue=identity.installation.queues.central,
        workflows=[Scripted],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        yield Records(identity, sdlc_store, sdlc_reader, care)
    await database.close()
