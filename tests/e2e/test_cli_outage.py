"""What people see while NATS is away that nobody can restart, and that all continues afterwards."""

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.local_stack import StackAddresses
from tests.e2e.conftest import ROOT, STARTER, Cli, Host, addresses_of, plan_of, until
from tests.fixtures_sdlc import NatsServer
from tests.namespaces import create_namespace

SIX_SECONDS = 3_000
"""Minutes of todd: long enough to stop a server that runs in this process's hands."""


@pytest.fixture
def lonely_host(
    bare_cli: Cli,
    stack: StackAddresses,
    nats_server: NatsServer,
    database_url: str,
    tmp_path: Path,
) -> Iterator[Host]:
    """A worker of its own, beside a NATS that a test may stop."""
    namespace = f"outage-{uuid.uuid4().hex[:8]}"
    asyncio.run(create_namespace(stack.temporal_address, namespace))
    agents = tmp_path / "agents.toml"
    own = {
        "TEMPORAL_NAMESPACE": namespace,
        "NATS_URL": nats_server.url,
        "NATS_USER": "agog",
        "NATS_PASSWORD": nats_server.password,
        "DATABASE_URL": database_url,
        "AGOG_HOME": str(tmp_path / "home"),
        "AGOG_AGENTS_FILE": str(agents),
        "AGOG_HEALTH_PORT": "0",
    }
    cli = Cli({**bare_cli.environment, **addresses_of(stack), **own}, tmp_path)
    host = Host(cli, tmp_path / "worker.log")
    host.restart({}, todd_minutes=SIX_SECONDS)
    yield host
    host.stop()


@pytest.fixture
def lonely(lonely_host: Host) -> Cli:
    """Commands beside that worker."""
    return lonely_host.cli


def test_status_names_the_dependency_that_no_row_can_name_yet(
    lonely: Cli, nats_server: NatsServer, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(plan_of(("Check", "todd"), ("Work", "berry")))
    started = lonely("start", "REQ-AWAY-1", "--title", "A title", "--pipeline", str(plan))
    assert started.code == 0, started.err
    # A command would take seconds to say so on a busy machine, and the stage might be over by then.
    log = tmp_path / "worker.log"
    until(lambda: "Starting Check" in log.read_text(), "the first stage runs")
    nats_server.stop()
    try:
        until(lambda: seen(lonely)["missing_dependency"] == "NATS", "the outage is told")
        said = lonely("status", "REQ-AWAY-1").out
        until(lambda: listed(lonely)["missing_dependency"] == "NATS", "the list tells it too")
        shown = [lonely("list", *options).out for options in ((), ("--waiting",))]
        ended = lonely("list", "--state", "DELIVERED", "--json").document
        sasha = lonely("doctor", "--json").document["sasha"]
    finally:
        nats_server.start()

    missing = f"NATS is not available; nothing continues without it: {STARTER} doctor"
    for each in (said, *shown):
        assert missing in each
    assert ended["missing_dependency"] == ""
    assert "nats_down" in {case["alert"]["kind"] for case in sasha["status"]["remediations"]}
    assert "nats_down" in {advice["kind"] for advice in sasha["would_do"]}
    assert lonely("watch", "REQ-AWAY-1").code == 0
    assert seen(lonely)["missing_dependency"] == ""


def test_status_and_list_say_that_no_worker_runs(
    lonely: Cli, lonely_host: Host, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(plan_of(("Check", "todd"), ("Work", "berry")))
    assert lonely("start", "REQ-AWAY-1", "--title", "A title", "--pipeline", str(plan)).code == 0
    log = tmp_path / "worker.log"
    until(lambda: "Starting Check" in log.read_text(), "the first stage runs")
    before = seen(lonely)["missing_worker"]
    lonely_host.kill()

    said = [lonely("status", "REQ-AWAY-1").out, lonely("list").out]

    assert before == ""
    for each in said:
        assert "No worker runs on this host, e2e." in each
        assert f"python {ROOT / 'worker.py'}" in each
    lonely_host.restart({}, todd_minutes=SIX_SECONDS)
    assert lonely("watch", "REQ-AWAY-1").code == 0
    assert seen(lonely)["missing_worker"] == ""


def seen(cli: Cli) -> Any:
    return cli("status", "REQ-AWAY-1", "--json").document


def listed(cli: Cli) -> Any:
    return cli("list", "--json").document
