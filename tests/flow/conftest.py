"""Houses: the real workflow, database and NATS; only agents and builds follow a script."""

import sys
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from adapters.installation import establish
from adapters.local_stack import StackAddresses
from adapters.nats.events import NatsEventPublisher
from adapters.sdlc.store import PostgresSdlcStore
from adapters.temporal.client import DATA_CONVERTER
from pipeline.runbook import RUNBOOK
from tests.cluster import Cluster
from tests.fakes import RealClock, VirtualClock
from tests.namespaces import create_namespace


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A time-skipping server of its own: a heartbeat time-out would poison a shared one."""
    binary = str(Path(sys.prefix, "bin", "temporal-test-server"))
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary, data_converter=DATA_CONVERTER
    ) as env:
        yield env


@pytest.fixture
async def day_cluster(
    skipping: WorkflowEnvironment,
    sdlc_store: PostgresSdlcStore,
    nats_publisher: NatsEventPublisher,
) -> AsyncIterator[Cluster]:
    """Virtual time: minutes are exact. Nobody may ask a human: time would skip on for years."""
    clock = VirtualClock(skipping)
    async with Cluster(skipping.client, clock, sdlc_store, nats_publisher, a_host()) as cluster:
        yield cluster


@pytest.fixture
async def cluster(
    stack: StackAddresses, sdlc_store: PostgresSdlcStore, nats_publisher: NatsEventPublisher
) -> AsyncIterator[Cluster]:
    """Real time, short minutes, a full server: updates and waiting work as in production."""
    host = a_host()
    await create_namespace(stack.temporal_address, host)
    client = await Client.connect(
        stack.temporal_address, namespace=host, data_converter=DATA_CONVERTER
    )
    identity = await establish(client, sdlc_store.database)
    async with Cluster(client, RealClock(), sdlc_store, nats_publisher, host, identity) as cluster:
        yield cluster


@pytest.fixture
async def other(
    stack: StackAddresses,
    cluster: Cluster,
    sdlc_store: PostgresSdlcStore,
    nats_publisher: NatsEventPublisher,
) -> AsyncIterator[Cluster]:
    """Another host of the same installation."""
    client = await Client.connect(  # its own: a queue takes one worker of a connection
        stack.temporal_address, namespace=cluster.host, data_converter=DATA_CONVERTER
    )
    identity = await establish(client, sdlc_store.database)
    clock, host = RealClock(), a_host()
    async with Cluster(client, clock, sdlc_store, nats_publisher, host, identity) as other:
        yield other


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that Sasha has done is given time to show."""
    for kind, remedy in RUNBOOK.items():
        monkeypatch.setitem(RUNBOOK, kind, replace(remedy, shows_within=timedelta()))


def a_host() -> str:
    return f"host-{uuid.uuid4().hex[:8]}"
