"""A house in virtual time: the real workflow, database and NATS; only agents and builds pretend."""

import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment

from adapters.nats_events import NatsEventPublisher
from adapters.sdlc_store import PostgresSdlcStore
from tests.house import House


@pytest.fixture
async def skipping() -> AsyncIterator[WorkflowEnvironment]:
    """A time-skipping server of its own: a heartbeat time-out would poison a shared one."""
    binary = str(Path(sys.prefix, "bin", "temporal-test-server"))
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary, data_converter=pydantic_data_converter
    ) as env:
        yield env


@pytest.fixture
async def house(
    skipping: WorkflowEnvironment,
    sdlc_store: PostgresSdlcStore,
    nats_publisher: NatsEventPublisher,
) -> AsyncIterator[House]:
    async with House(skipping, sdlc_store, nats_publisher, f"host-{uuid.uuid4().hex[:8]}") as house:
        yield house
