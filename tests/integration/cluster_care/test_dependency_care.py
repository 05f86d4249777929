"""A cluster whose servers are somebody else's, or those of an embedded stack."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from psycopg import sql

from activities.sasha import SashaActivities
from adapters.care.care import Care
from adapters.care.dependencies import Dependencies, cluster_care
from adapters.care.records import RecordCare
from adapters.local_stack import LocalStack
from adapters.local_stack.child import recorded_process
from adapters.nats.connection import NatsLogin
from adapters.nats.events import NatsEventPublisher
from adapters.sdlc.database import open_database
from adapters.sdlc.migrate import UNKNOWN_REVISION, upgrade
from pipeline.errors import DependencyUnavailable, NotRepairable
from pipeline.events import STREAMS
from pipeline.model import Alert, AlertKind, Watch
from pipeline.ports import HealthChecks, HostPorts
from tests.eventually import PATIENCE_SECONDS, Stopwatch, eventually_async
from tests.fixtures_sdlc import NatsServer, PostgresServer
from tests.ports import own_port
from tests.records import Records
from tests.stack_usage import keep_own_ports
from workflows.starting import start_requirement

ENVIRONMENT: Mapping[str, str] = {"PATH": os.environ["PATH"]}
NATS_DOWN = Alert(AlertKind.NATS_DOWN, "nats")
DATABASE_DOWN = Alert(AlertKind.DATABASE_DOWN, "database")


@pytest.fixture
def dependencies(
    nats_server: NatsServer, nats_publisher: NatsEventPublisher, database_url: str, tmp_path: Path
) -> Dependencies:
    """Real servers, with our streams and tables, that nobody keeps."""
    login = NatsLogin(nats_server.url, "agog", nats_server.password)
    return Dependencies(tmp_path / "home", login, database_url, environment=ENVIRONMENT)


def nobody_at(dependencies: Dependencies, **changes: object) -> Dependencies:
    """The same cluster, with addresses where nobody listens."""
    port = own_port()
    nats = replace(dependencies.nats, url=f"nats://127.0.0.1:{port}")
    database = f"postgresql+psycopg://agog:hidden@127.0.0.1:{port}/agog"
    nowhere = replace(dependencies, nats=nats, database_url=database)
    return replace(nowhere, **changes)  # type: ignore[arg-type] # names its own


async def test_cluster_that_is_well_has_no_alerts(
    dependencies: Dependencies, records: Records
) -> None:
    cluster: HealthChecks = cluster_care(dependencies, records.care)

    assert await cluster.look() == ()


async def test_everything_that_is_wrong_is_found_in_one_look(
    dependencies: Dependencies,
    records: Records,
    nats_publisher: NatsEventPublisher,
    postgres_server: PostgresServer,
) -> None:
    await nats_publisher._jetstream.delete_stream(STREAMS[1].name)
    _set_schema(postgres_server, dependencies.database_url, "0000")
    await records.accept("REQ-1")
    cluster = cluster_care(dependencies, records.care)

    found = await cluster.look()

    assert [(each.kind, each.component, each.subject) for each in found] == [
        (AlertKind.STREAMS_AMISS, "nats", "agog_deliverables"),
        (AlertKind.PROGRAM_BEHIND, "program", ""),
        (AlertKind.ROW_WITHOUT_WORKFLOW, "record", "REQ-1"),
    ]


def _set_schema(server: PostgresServer, url: str, revision: str) -> None:
    change = sql.SQL("UPDATE alembic_version SET version_num = {}").format(sql.Literal(revision))
    server.execute(change, database=url.rpartition("/")[2])


async def test_missing_stream_is_brought_back(
    dependencies: Dependencies, records: Records, nats_publisher: NatsEventPublisher
) -> None:
    await nats_publisher._jetstream.delete_stream(STREAMS[0].name)
    cluster = cluster_care(dependencies, records.care)
    (alert,) = await cluster.look()

    said = await cluster.act(alert)

    assert said == "agog_orchestration_events is missing: brought to what it must be."
    assert await cluster.look() == ()
    assert await cluster.act(alert) == "agog_orchestration_events is as it must be."


async def test_missing_migrations_are_run(
    dependencies: Dependencies, records: Records, postgres_server: PostgresServer
) -> None:
    name = postgres_server.clone("template0")
    try:
        cluster = cluster_care(
            replace(dependencies, database_url=postgres_server.url(name)), records.care
        )
        (alert,) = await cluster.look()
        assert alert.kind is AlertKind.MIGRATIONS_BEHIND

        await cluster.act(alert)

        assert await cluster.look() == ()
    finally:
        postgres_server.drop(name)


async def test_database_of_another_program_is_an_alert_that_is_not_acted_on(
    dependencies: Dependencies, records: Records, postgres_server: PostgresServer
) -> None:
    _set_schema(postgres_server, dependencies.database_url, "9999")
    cluster = cluster_care(dependencies, records.care)
    (alert,) = await cluster.look()
    assert (alert.kind, alert.component) == (AlertKind.PROGRAM_BEHIND, "program")
    assert alert.detail == UNKNOWN_REVISION

    with pytest.raises(NotRepairable, match="update this one"):
        await cluster.act(alert)


async def test_tables_that_may_not_be_read_are_a_alert(
    dependencies: Dependencies, records: Records, postgres_server: PostgresServer
) -> None:
    name = dependencies.database_url.rpartition("/")[2]
    stranger = sql.Identifier(f"stranger_{name}")
    create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'word'").format(stranger)
    postgres_server.execute(create, database=name)
    url = dependencies.database_url.replace(
        f"agog:{postgres_server.password}", f"stranger_{name}:word"
    )
    try:
        (found,) = await cluster_care(replace(dependencies, database_url=url), records.care).look()
    finally:
        postgres_server.execute(sql.SQL("DROP ROLE {}").format(stranger))

    assert found.key == DATABASE_DOWN.key
    assert found.detail.startswith("permission denied for table alembic_version")


async def test_what_is_down_and_nothing_may_restart_says_which_setting_would(
    dependencies: Dependencies, records: Records
) -> None:
    cluster = cluster_care(nobody_at(dependencies), records.care)
    found = await cluster.look()
    assert {each.key for each in found} == {NATS_DOWN.key, DATABASE_DOWN.key}
    assert not any("hidden" in each.detail for each in found)

    with pytest.raises(DependencyUnavailable, match="or set AGOG_RESTART_NATS to a command"):
        await cluster.act(NATS_DOWN)
    with pytest.raises(DependencyUnavailable, match="or set AGOG_RESTART_DATABASE to a command"):
        await cluster.act(DATABASE_DOWN)


@pytest.mark.parametrize(
    "hidden",
    [
        Alert(AlertKind.STREAMS_AMISS, "nats", STREAMS[0].name),
        Alert(AlertKind.MIGRATIONS_BEHIND, "database"),
        Alert(AlertKind.PROGRAM_BEHIND, "program"),
        Alert(AlertKind.ROW_WITHOUT_WORKFLOW, "record", "REQ-1"),
    ],
    ids=lambda alert: alert.kind,
)
async def test_trouble_is_not_over_because_a_greater_one_hides_it(
    dependencies: Dependencies, records: Records, hidden: Alert
) -> None:
    nowhere = nobody_at(dependencies)
    database = open_database(nowhere.database_url)
    care = RecordCare(records.identity, records.store, database, start_requirement)
    cluster = cluster_care(nowhere, care)

    assert not await is_over(cluster, hidden)
    assert not await is_over(cluster, NATS_DOWN)
    assert not await is_over(cluster, DATABASE_DOWN)
    assert {each.key for each in await cluster.look()} == {NATS_DOWN.key, DATABASE_DOWN.key}
    assert await is_over(cluster_care(dependencies, records.care), hidden)
    await database.close()


async def test_row_is_not_over_because_rows_cannot_be_compared(
    dependencies: Dependencies, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    await records.accept("REQ-1")
    cluster = cluster_care(dependencies, records.care)
    (row,) = await cluster.look()
    monkeypatch.setattr("adapters.care.records._WORKFLOW_TYPE", "no ' query")
    (blind,) = await cluster.look()

    assert (row.subject, blind.subject) == ("REQ-1", "")
    assert not await is_over(cluster, row)
    assert not await is_over(cluster, blind)


async def test_server_that_answers_is_not_down_because_a_stream_is_amiss(
    dependencies: Dependencies, records: Records, nats_publisher: NatsEventPublisher
) -> None:
    await nats_publisher._jetstream.delete_stream(STREAMS[0].name)
    cluster = cluster_care(dependencies, records.care)
    (amiss,) = await cluster.look()

    assert await is_over(cluster, NATS_DOWN)
    assert await is_over(cluster, replace(amiss, subject=STREAMS[1].name))
    assert not await is_over(cluster, amiss)


async def is_over(cluster: Care, alert: Alert) -> bool:
    """What Sasha is told who has no patience."""
    sasha = SashaActivities(cast(HostPorts, SimpleNamespace(cluster_care=cluster)))
    return await sasha.watch_cluster(Watch(alert, timedelta()))


async def test_hung_server_is_down_within_five_seconds(
    dependencies: Dependencies, records: Records, nats_server: NatsServer
) -> None:
    assert nats_server.process
    cluster = cluster_care(dependencies, records.care)
    nats_server.process.send_signal(signal.SIGSTOP)
    try:
        with Stopwatch() as watch:
            (alert,) = await cluster.look()
    finally:
        nats_server.process.send_signal(signal.SIGCONT)

    assert watch.seconds < 5.5
    assert alert.key == NATS_DOWN.key
    assert await cluster.act(alert) == "NATS answers again."


def command(program: str) -> tuple[str, ...]:
    return (sys.executable, "-c", program)


async def test_configured_command_is_run_and_its_output_logged_without_our_secrets(
    dependencies: Dependencies, records: Records, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    secret = dependencies.nats.password
    program = f"import pathlib; pathlib.Path({str(mark)!r}).touch(); print('using', {secret!r})"
    cluster = cluster_care(nobody_at(dependencies, restart_nats=command(program)), records.care)

    with caplog.at_level(logging.INFO):
        assert await cluster.act(NATS_DOWN) == "NATS was restarted by AGOG_RESTART_NATS."

    assert mark.exists()
    assert "AGOG_RESTART_NATS says: using ***" in caplog.text
    assert str(secret) not in caplog.text


async def test_server_that_the_command_leaves_running_does_not_delay_it(
    dependencies: Dependencies, records: Records, tmp_path: Path
) -> None:
    mark = tmp_path / "pid"
    program = (
        "import pathlib, subprocess, sys;"
        "server = subprocess.Popen((sys.executable, '-c', 'import signal; signal.pause()'));"
        f"pathlib.Path({str(mark)!r}).write_text(str(server.pid)); server.returncode = 0"
    )
    changed = nobody_at(dependencies, restart_database=command(program))
    cluster = cluster_care(changed, records.care)

    async with asyncio.timeout(PATIENCE_SECONDS):
        await cluster.act(DATABASE_DOWN)

    os.kill(int(mark.read_text()), signal.SIGKILL)  # it lived


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (command("raise SystemExit(3)"), "exit code 3"),
        (("no-such-program",), "No such file or directory"),
        (command("import signal; signal.pause()"), "it was ended after 1 s"),
    ],
)
async def test_command_that_fails_is_a_failed_attempt(
    dependencies: Dependencies,
    records: Records,
    monkeypatch: pytest.MonkeyPatch,
    argv: tuple[str, ...],
    reason: str,
) -> None:
    if "after 1 s" in reason:
        monkeypatch.setattr("adapters.care.dependencies.COMMAND_SECONDS", 1.0)
    cluster = cluster_care(nobody_at(dependencies, restart_nats=argv), records.care)

    with pytest.raises(DependencyUnavailable, match=f"AGOG_RESTART_NATS has failed: {reason}"):
        await cluster.act(NATS_DOWN)


@pytest.fixture
async def embedded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Dependencies]:
    """NATS and PostgreSQL of a stack that is kept, and has been up for long."""
    monkeypatch.setattr("adapters.local_stack.restarting.READY_SECONDS", 0.0)
    keep_own_ports(tmp_path)
    stack = LocalStack(tmp_path, temporal_address="10.0.0.1:7233")
    addresses = await stack.start()
    watching = asyncio.create_task(stack.watch(lambda incident: None))
    await asyncio.to_thread(upgrade, addresses.database_url)
    login = NatsLogin(addresses.nats_url, addresses.nats_user, addresses.nats_password)
    yield Dependencies(tmp_path, login, addresses.database_url)
    await stack.stop()
    await watching


async def test_embedded_servers_that_hang_are_brought_back(
    embedded: Dependencies, records: Records
) -> None:
    cluster = cluster_care(embedded, records.care)
    for alert in await cluster.look():
        await cluster.act(alert)  # the streams of a new server
    assert await cluster.look() == ()
    for name in ("nats", "postgres"):
        server = recorded_process(embedded.home, name)
        assert server
        server.suspend()
    found = await cluster.look()
    assert {each.key for each in found} == {NATS_DOWN.key, DATABASE_DOWN.key}

    for alert in found:
        await cluster.act(alert)

    await eventually_async(lambda: _is_well(cluster), "a cluster that is well")


async def _is_well(cluster: Care) -> bool:
    return await cluster.look() == ()
