"""The doctor beside real servers: each thing by itself, and what Sasha would do about it."""

import asyncio
import json
import socket
import time
from typing import Any

import pytest
from psycopg import sql

from adapters.local_stack import StackAddresses
from adapters.nats.events import configuration, find_flaw
from adapters.runs.slots import SlotLimit
from adapters.sdlc.migrate import Schema, schema
from adapters.temporal.client import connect
from adapters.temporal.messages import TemporalSasha
from pipeline.events import STREAMS
from pipeline.model import SashaCall
from pipeline.runbook import RUNBOOK
from tests.e2e.conftest import Cli, installation_at, until
from tests.fixtures_sdlc import NatsServer, PostgresServer

MOST_SECONDS = 10.0
"""Beside what the command takes where all is well, which is the machine's."""


def by_name(document: Any) -> dict[str, Any]:
    return {check["name"]: check for check in document["checks"]}


def would_do(document: Any) -> dict[str, Any]:
    return {advice["kind"]: advice for advice in document["sasha"]["would_do"]}


async def call_sasha(stack: StackAddresses) -> None:
    client = await connect(stack.temporal_address)
    await TemporalSasha(client, await installation_at(stack)).call(SashaCall(""))


@pytest.mark.usefixtures("host")
def test_doctor_names_everything_that_is_well(cli: Cli, stack: StackAddresses) -> None:
    asyncio.run(call_sasha(stack))
    until(lambda: cli("doctor", "--json").document["sasha"]["status"] is not None, "her answer")

    said = cli("doctor", "--json")

    assert said.code == 0, said.out
    checks = by_name(said.document)
    streams = [f"Stream {stream.name}" for stream in STREAMS]
    assert {"Temporal", "NATS", "SDLC database", "Worker", "Migrations", *streams} < set(checks)
    assert checks["Health"]["facts"]["ready"] is True
    assert checks["Hosts"]["facts"]["hosts"] == {"e2e": True}
    assert checks["Slots"]["facts"]["configured"] == 4
    assert checks["Memory"]["facts"]["total_bytes"] > 0
    sasha = said.document["sasha"]
    assert (sasha["is_there"], sasha["unknown"]) == (True, [])


@pytest.mark.usefixtures("host")
def test_health_checks_ask_for_dependencies_alone(cli: Cli) -> None:
    said = cli("doctor", "--dependencies", "--json")

    assert said.code == 0, said.out
    names = ["Temporal", "NATS", "SDLC database", "Installation", "Worker"]
    assert list(by_name(said.document)) == names
    assert "sasha" not in said.document


@pytest.mark.usefixtures("host")
def test_doctor_tells_a_stream_that_is_missing_from_one_of_other_limits(
    cli: Cli, nats_server: NatsServer
) -> None:
    changed, *missing = STREAMS

    async def make_one() -> None:
        publisher = await nats_server.connect()
        await publisher._jetstream.add_stream(configuration(changed).evolve(max_msgs=5))
        await publisher.close()

    asyncio.run(make_one())
    at_it = {
        "NATS_URL": nats_server.url,
        "NATS_USER": "agog",
        "NATS_PASSWORD": nats_server.password,
    }

    said = cli("doctor", "--json", **at_it)

    assert said.code == 6
    checks = by_name(said.document)
    assert checks[f"Stream {changed.name}"]["detail"] == "has max_msgs 5 instead of -1"
    assert {checks[f"Stream {stream.name}"]["detail"] for stream in missing} == {"is missing"}
    advice = [a for a in said.document["sasha"]["would_do"] if a["kind"] == "streams_amiss"]
    assert {a["subject"] for a in advice} == {stream.name for stream in STREAMS}
    assert "Create the stream" in advice[0]["action"]
    told = ["has max_msgs 5 instead of -1", *(["is missing"] * len(missing))]
    assert asyncio.run(flaws(nats_server)) == told


async def flaws(server: NatsServer) -> list[str]:
    publisher = await server.connect()
    found = [await find_flaw(publisher._jetstream, stream) for stream in STREAMS]
    await publisher.close()
    return found


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("statement", "stands", "alert", "left"),
    [
        ("DELETE FROM alembic_version", "behind", "migrations_behind", Schema.BEHIND),
        (
            "UPDATE alembic_version SET version_num = '9999'",
            "unknown",
            "program_behind",
            Schema.UNKNOWN,
        ),
    ],
)
def test_doctor_says_how_the_schema_stands_and_leaves_it(
    cli: Cli,
    postgres_server: PostgresServer,
    database_url: str,
    statement: str,
    stands: str,
    alert: str,
    left: Schema,
) -> None:
    name = database_url.rpartition("/")[2]
    postgres_server.execute(sql.SQL(statement), database=name)

    said = cli("doctor", "--json", DATABASE_URL=database_url)

    assert said.code == 6
    assert by_name(said.document)["Migrations"]["detail"] == stands
    assert alert in would_do(said.document)
    assert schema(database_url) is left


@pytest.mark.usefixtures("host")
def test_doctor_answers_in_time_without_a_database(cli: Cli) -> None:
    idle = time.monotonic()
    cli("doctor", "--json")
    usual = time.monotonic() - idle

    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        port = silent.getsockname()[1]
        began = time.monotonic()
        said = cli("doctor", "--json", DATABASE_URL=f"postgresql+psycopg://x@127.0.0.1:{port}/agog")
        lasted = time.monotonic() - began

    assert said.code == 6
    assert lasted < MOST_SECONDS + 3 * usual
    advice = would_do(said.document)["database_down"]
    assert advice["action"] == RUNBOOK["database_down"].action  # type: ignore[index]
    assert (advice["place"], advice["attempts"], advice["escalates"]) == ("", 3, True)
    assert [each.partition(":")[0] for each in said.document["sasha"]["unknown"]] == [
        "Sasha's incidents"
    ]


@pytest.mark.usefixtures("host")
def test_doctor_says_what_sasha_would_do_about_a_full_disk(cli: Cli) -> None:
    said = cli("doctor", AGOG_MIN_FREE_DISK_MB=str(10**9))

    assert said.code == 2
    assert "host e2e: disk_low e2e" in said.out
    assert "-> Remove clones and run directories" in said.out
    assert "(3 times at most, then a P0 asks a human)" in said.out


def test_doctor_shows_why_slots_are_lowered(bare_cli: Cli, tmp_path: Any) -> None:
    SlotLimit(tmp_path, 4).lower(2, "Memory was short.")

    said = bare_cli("doctor", "--json", AGOG_HOME=str(tmp_path), TEMPORAL_ADDRESS="127.0.0.1:1")

    slots = by_name(said.document)["Slots"]["facts"]
    assert slots["lowered"] == {"to": 2, "why": "Memory was short."}
    assert (slots["slots"], slots["configured"]) == (2, 4)


def test_doctor_tells_of_a_worker_that_was_killed(bare_cli: Cli, tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    worker = {"pid": 4711, "version": "1", "health": f"http://127.0.0.1:{port}"}
    (tmp_path / "worker.json").write_text(json.dumps(worker))

    said = bare_cli("doctor", "--json", AGOG_HOME=str(tmp_path), TEMPORAL_ADDRESS="127.0.0.1:1")

    health = by_name(said.document)["Health"]
    assert (health["ok"], "process 4711, does not answer" in health["advice"]) == (False, True)
