"""Incidents as `incidents` and `doctor` tell of them."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from adapters.sdlc.store import create_store
from pipeline.model import Alert, AlertKind, Incident, IncidentEnd
from tests.e2e.conftest import STARTER, Cli

BEGAN = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)

REPAIRED = Incident(
    "run/1",
    "",
    Alert(AlertKind.NATS_DOWN, "nats", detail="NATS at 127.0.0.1:4223 cannot be reached."),
    IncidentEnd.REPAIRED,
    ("NATS was started again.",),
    BEGAN,
    BEGAN + timedelta(seconds=12.5),
)
ESCALATED = Incident(
    "run/2",
    "builder-1",
    Alert(AlertKind.DISK_LOW, "disk", "builder-1", "12 MiB are free."),
    IncidentEnd.ESCALATED,
    ("Removed nothing.", "Removed nothing.", "Removed nothing."),
    BEGAN + timedelta(hours=1),
    BEGAN + timedelta(hours=1, minutes=2),
    "REQ-INFRA-disk-1",
)


async def record(url: str, *incidents: Incident) -> None:
    store = create_store(url)
    for incident in incidents:
        await store.record_incident(incident)
    await store.close()


@pytest.fixture
def url(database_url: str) -> str:
    asyncio.run(record(database_url, REPAIRED, ESCALATED))
    return database_url


def test_incidents_stand_newest_first_with_what_was_done(bare_cli: Cli, url: str) -> None:
    said = bare_cli("incidents", DATABASE_URL=url, TZ="UTC")

    assert said.code == 0, said.err
    assert said.out.splitlines() == [
        "2026-01-05 13:00:00  2m00s  host builder-1  disk_low builder-1  escalated",
        "    The disk of the state directory is nearly full.",
        "    12 MiB are free.",
        "    - Removed nothing.",
        "    - Removed nothing.",
        "    - Removed nothing.",
        f"    REQ-INFRA-disk-1 asks a human: {STARTER} status REQ-INFRA-disk-1",
        "2026-01-05 12:00:00  12.5s  cluster  nats_down  repaired",
        "    The connection to NATS is lost.",
        "    NATS at 127.0.0.1:4223 cannot be reached.",
        "    - NATS was started again.",
    ]


def test_incidents_are_a_document_too(bare_cli: Cli, url: str) -> None:
    document = bare_cli("incidents", "--json", "--limit", "1", DATABASE_URL=url).document

    assert document["schema_version"] == 1
    (newest,) = document["incidents"]
    assert newest["kind"] == "disk_low"
    assert newest["seconds"] == 120.0
    assert newest["requirement"] == "REQ-INFRA-disk-1"
    assert newest["actions"] == 3 * ["Removed nothing."]


def test_no_incident_is_said_and_prints_no_data(bare_cli: Cli, database_url: str) -> None:
    said = bare_cli("incidents", DATABASE_URL=database_url)

    assert (said.code, said.out) == (0, "")
    assert said.err == "There have been no incidents.\n"


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_limit_that_shows_nothing_is_refused(bare_cli: Cli, limit: str) -> None:
    assert bare_cli("incidents", "--limit", limit).code == 2


def test_doctor_shows_the_latest_incidents(bare_cli: Cli, url: str) -> None:
    said = bare_cli("doctor", DATABASE_URL=url, TEMPORAL_ADDRESS="127.0.0.1:1")

    assert "Latest incidents" in said.out
    assert said.out.index("disk_low builder-1") < said.out.index("nats_down")
