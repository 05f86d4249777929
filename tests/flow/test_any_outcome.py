"""Any outcomes, in any order, at any stage: no gate passes without its own evidence.

The rules are stated once more in `tests/outcomes`, on rows, commits and events alone; nothing there
asks the code under test what it thinks.
"""

import uuid
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from temporalio.client import Client

from adapters.local_stack import StackAddresses
from adapters.nats.events import NatsEventPublisher
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.temporal.client import DATA_CONVERTER
from pipeline.events import ESCALATION_PREFIX, EVENT_PREFIX
from pipeline.model import RequirementState
from tests.fakes import RealClock
from tests.fixtures_workspaces import store_of
from tests.namespaces import create_namespace
from tests.outcomes.checks import check_records
from tests.outcomes.cluster import AnyHouse
from tests.outcomes.draws import SCENARIOS
from tests.outcomes.records import Records, Row, read_parents, read_rows
from tests.outcomes.rules import check_delivered, check_starts
from tests.outcomes.scenarios import Scenario
from workflows import continuing

EXAMPLES, MANY_EXAMPLES = 10, 200

_SETTINGS = settings(
    deadline=None,
    database=None,
    phases=[Phase.generate],  # an example takes seconds: it is printed as it was drawn
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@dataclass(frozen=True, repr=False)
class Theatre:
    """Servers for all scenarios, and a directory for their projects."""

    client: Client
    host: str
    store: PostgresSdlcStore
    reader: SdlcReader
    publisher: NatsEventPublisher
    database_url: str
    directory: Path

    def __repr__(self) -> str:
        return "theatre"

    async def play(self, scenario: Scenario) -> Records:
        """Take a requirement through the scenario, replay its histories, read what it left."""
        directory = self.directory / uuid.uuid4().hex
        cluster = AnyHouse(self.client, RealClock(), self.store, self.publisher, self.host)
        with patch.object(continuing, "EVENTS", scenario.history):
            async with cluster:
                report = await cluster.play(scenario, directory, self.reader)
                await cluster.replay()
        project = cluster.project
        delivered = report.commit if report.state is RequirementState.DELIVERED else ""
        assert not delivered or delivered == project.git("rev-parse", "main")
        assert not list(cluster.home.glob("clones/*/*")), "clones are left"
        return Records(
            cluster.number,
            scenario,
            await read_rows(self.database_url, cluster.number),
            await self._published(cluster.number),
            cluster.agents.bases,
            cluster.agents.started,
            delivered,
            project.files(delivered) if delivered else [],
            read_parents(store_of(project, cluster.home)),
        )

    async def _published(self, number: str) -> list[Row]:
        subjects = (f"{EVENT_PREFIX}.>", f"{ESCALATION_PREFIX}.>")
        return [
            event
            for subject in subjects
            async for event in self.publisher.events(subject=subject)
            if event["reqNumber"] == number or str(event["reqNumber"]).startswith(f"{number}-FIX-")
        ]


@pytest.fixture
async def theatre(
    stack: StackAddresses,
    sdlc_store: PostgresSdlcStore,
    sdlc_reader: SdlcReader,
    nats_publisher: NatsEventPublisher,
    database_url: str,
    tmp_path: Path,
) -> Theatre:
    host = f"host-{uuid.uuid4().hex[:8]}"
    await create_namespace(stack.temporal_address, host)
    client = await Client.connect(
        stack.temporal_address, namespace=host, data_converter=DATA_CONVERTER
    )
    return Theatre(
        client, host, sdlc_store, sdlc_reader, nats_publisher, database_url, tmp_path / "projects"
    )


async def check(theatre: Theatre, scenario: Scenario) -> None:
    records = await theatre.play(scenario)
    fixes = len(records.rows["fixes"])
    event(f"{records.root['state']} with {'some' if fixes else 'no'} fixes")
    event(f"asked {len(records.rows['escalations'])} times")
    event(f"fixes {fixes}")
    check_records(records)
    check_starts(records)
    if records.delivered:
        check_delivered(records)


@pytest.mark.timeout(1_200)
@settings(_SETTINGS, max_examples=EXAMPLES)
@given(scenario=SCENARIOS)
async def test_any_outcome(theatre: Theatre, scenario: Scenario) -> None:
    await check(theatre, scenario)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@settings(_SETTINGS, max_examples=MANY_EXAMPLES, derandomize=False)
@given(scenario=SCENARIOS)
async def test_many_outcomes(theatre: Theatre, scenario: Scenario) -> None:
    await check(theatre, scenario)
