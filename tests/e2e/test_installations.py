"""Installations beside each other: no task, no row and no word ever reaches the wrong one."""

import asyncio
import json
import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from temporalio.client import Client

from adapters.local_stack import StackAddresses
from adapters.sdlc.migrate import upgrade
from tests.e2e.conftest import Cli, addresses_of, until, write_agents
from tests.e2e.up_stack import SERVERS, Up, is_over
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_sdlc import TEMPLATE, PostgresServer
from tests.namespaces import create_namespace
from tests.prefork import Program
from tests.worker_process import WorkerProcess

BATCH = 4

# --- house-1: a stack that was killed, and another one on its port --------------------------------


@pytest.fixture
def stacks(tmp_path: Path) -> Iterator[tuple[Up, Up]]:
    """Two checkouts, neither of which is up."""
    pair = Up(tmp_path / "a"), Up(tmp_path / "b")
    try:
        yield pair
    finally:
        for each in pair:
            each.close()


def kill(*processes: psutil.Process | Program) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # a server's child ends by itself, or with its parent
            process.kill()
    for process in processes:
        process.wait(PATIENCE_SECONDS)


def test_worker_of_a_killed_stack_takes_nothing_of_a_stack_on_its_port(
    stacks: tuple[Up, Up],
) -> None:
    a, b = stacks
    keeper = a.open()
    port = a.stack["ports"]["temporal"]
    worker = a.until_worker()
    a.start("REQ-A")  # its agent runs: a worker without agents would end by itself
    servers = [each for name in SERVERS for each in family(a.server(name))]
    keeper.kill()
    kill(*servers)
    keeper.communicate()
    assert not is_over(worker)

    write_agents(Path(b.cli.environment["AGOG_AGENTS_FILE"]), {})
    b.take_port("temporal", port)
    b.open()
    b.until_worker()  # it makes the tables
    assert b.stack["ports"]["temporal"] == port
    backlog = b.directory / "backlog.jsonl"
    numbers = [f"REQ-B-{n}" for n in range(BATCH)]
    lines = [json.dumps({"req": number, "title": "x"}) for number in numbers]
    backlog.write_text("\n".join(lines))
    said = b.cli("start", "--batch", str(backlog), "--wait")

    assert said.code == 0, said.err
    assert [b.cli("status", each, "--json").document["state"] for each in numbers] == [
        "DELIVERED"
    ] * BATCH
    until(lambda: is_over(worker), "the end of a worker that has found a stranger")
    log = a.log("worker")
    assert f"Temporal at 127.0.0.1:{port} belongs to another installation" in log
    assert not [number for number in numbers if number in log]
    assert len(a.puppets.living("cynthia")) == 1

    # its own stack comes back elsewhere, and finds the agent at work
    a.open()
    a.deliver("REQ-A")


def family(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def test_worker_whose_up_was_killed_ends_when_its_agents_have_ended(tmp_path: Path) -> None:
    up = Up(tmp_path / "a")
    try:
        keeper = up.open()
        worker = up.until_worker()
        up.start("REQ-ORPHAN")
        keeper.kill()
        keeper.communicate()
        until(lambda: "has gone" in up.log("worker"), "a worker that notices")
        assert not is_over(worker)

        up.puppets.release("REQ-ORPHAN.cynthia")
        until(lambda: is_over(worker), "the end of the worker")

        assert up.puppets.starts("tim", "REQ-ORPHAN") == 0  # nothing new was started
        up.open()
        up.deliver("REQ-ORPHAN")
    finally:
        up.close()


def test_worker_of_a_killed_up_without_agents_ends_at_once(tmp_path: Path) -> None:
    up = Up(tmp_path / "a")
    try:
        keeper = up.open()
        worker = up.until_worker()
        kill(*[each for name in SERVERS for each in family(up.server(name))], keeper)

        until(lambda: is_over(worker), "the end of the worker")
    finally:
        up.close()


def test_next_up_takes_over_from_a_worker_with_agents_at_once(tmp_path: Path) -> None:
    """One that `up` has not started itself: nobody but itself can end it."""
    up = Up(tmp_path / "a")
    try:
        keeper = up.open("--no-worker")
        worker = open_worker(up)
        log = up.directory / "worker.log"
        until(lambda: " is ready" in log.read_text(), "a worker")
        up.start("REQ-TAKEN")
        keeper.kill()
        keeper.communicate()

        up.open()
        assert worker.wait(PATIENCE_SECONDS) == 0
        assert len(up.puppets.living("cynthia")) == 1
        up.until_worker()
        up.deliver("REQ-TAKEN")
    finally:
        up.close()


def open_worker(up: Up) -> Program:
    worker = Path(__file__).parents[2] / "worker.py"
    with (up.directory / "worker.log").open("wb") as log:
        return Program([str(worker)], up.cli.environment, Path.cwd(), log)


# --- two installations on one Temporal ------------------------------------------------------------


@dataclass
class Checkout:
    """One installation: a database, a state directory, a worker and commands of its own."""

    cli: Cli
    worker: WorkerProcess
    database_url: str

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        address = self.database_url.replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(address, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
async def namespace(stack: StackAddresses) -> str:
    name = f"shared-{secrets.token_hex(4)}"
    await create_namespace(stack.temporal_address, name)
    return name


@pytest.fixture
async def checkouts(
    stack: StackAddresses, postgres_server: PostgresServer, namespace: str, tmp_path: Path
) -> AsyncIterator[tuple[Checkout, Checkout]]:
    """Two of one machine, with the same host name, on one Temporal and one NATS."""
    names = [postgres_server.clone(TEMPLATE) for _ in "ab"]
    pair = [checkout(stack, namespace, tmp_path / n, postgres_server.url(n)) for n in names]
    yield pair[0], pair[1]
    for each in pair:
        each.worker.close()
    for name in names:
        postgres_server.drop(name)


def checkout(stack: StackAddresses, namespace: str, directory: Path, database: str) -> Checkout:
    directory.mkdir()
    write_agents(directory / "agents.toml", {})
    environment = {
        **addresses_of(stack),
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "TEMPORAL_NAMESPACE": namespace,
        "DATABASE_URL": database,
        "AGOG_HOME": str(directory / "home"),
        "AGOG_HOST": "same",
        "AGOG_HEALTH_PORT": "0",
        "AGOG_AGENTS_FILE": str(directory / "agents.toml"),
    }
    return Checkout(Cli(environment, directory), WorkerProcess(environment, directory), database)


async def test_two_installations_on_one_temporal_share_nothing(
    checkouts: tuple[Checkout, Checkout],
) -> None:
    unique = secrets.token_hex(3)
    started: dict[str, list[str]] = {}
    for name, each in zip("ab", checkouts, strict=True):
        await each.worker.start()
        started[name] = [f"REQ-{unique}-{name}-{n}" for n in range(BATCH)]
    waiting = []
    for name, each in zip("ab", checkouts, strict=True):
        backlog = each.cli.directory / "backlog.jsonl"
        lines = [json.dumps({"req": number, "title": "x"}) for number in started[name]]
        backlog.write_text("\n".join(lines))
        waiting.append(each.cli.open("start", "--batch", str(backlog), "--wait"))
    for process in waiting:
        _, err = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, err

    for name, each in zip("ab", checkouts, strict=True):
        rows = each.execute("SELECT number, state, host FROM requirements ORDER BY number")
        assert rows == [(number, "DELIVERED", "same") for number in started[name]]
        assert "There is no requirement" not in each.worker.log
        said = each.cli("doctor", "--json").document
        checks = {check["name"]: check for check in said["checks"]}
        assert checks["Worker"]["ok"], checks["Worker"]
        assert checks["Installation"]["ok"], checks["Installation"]
        assert said["sasha"]["is_there"]
        (ours,) = each.execute("SELECT id FROM installation")[0]
        listed = each.cli("list", "--json").document
        assert (listed["installation"], listed["wrong_installation"]) == (ours, "")
        assert each.cli("status", started[name][0], "--json").document["installation"] == ours


async def test_number_of_another_installation_is_refused_and_leaves_no_row(
    checkouts: tuple[Checkout, Checkout],
) -> None:
    a, b = checkouts
    number = f"REQ-{secrets.token_hex(3)}"
    await a.worker.start()
    await b.worker.start()
    write_agents(Path(a.cli.environment["AGOG_AGENTS_FILE"]), {})
    assert a.cli("start", number, "--title", "x", "--wait").code == 0

    said = b.cli("start", number, "--title", "x")
    joined = b.cli("start", number, "--title", "x", "--attach")

    for refused in (said, joined):
        assert refused.code == 2
        assert f"{number} belongs to another installation" in refused.err
    assert b.cli("status", number).code == 3
    assert b.execute("SELECT number FROM requirements") == []
    assert a.cli("status", number, "--json").document["state"] == "DELIVERED"


async def test_row_whose_number_another_installation_took_steers_nothing_of_it(
    checkouts: tuple[Checkout, Checkout],
) -> None:
    """Two starts of one number at once: one gets the workflow, the other only its row."""
    a, b = checkouts
    number = f"REQ-{secrets.token_hex(3)}"
    for each in checkouts:
        upgrade(each.database_url)
    assert a.cli("start", number, "--title", "theirs").code == 0  # no worker: it stays ACCEPTED
    assert b.cli("start", f"{number}-OTHER", "--title", "bind").code == 0
    b.execute(
        "INSERT INTO requirements SELECT (jsonb_populate_record(r, jsonb_build_object("
        f" 'number', '{number}', 'number_folded', lower('{number}')))).* FROM requirements r"
    )

    said = b.cli("cancel", number)
    assert said.code == 2, said.err
    assert f"{number} belongs to another installation" in said.err
    said = b.cli("extend", number, "Research", "--minutes", "5", "--reason", "r")
    assert said.code in {2, 3}, said.err
    await a.worker.start()
    assert a.cli("watch", number).code == 0


# --- a stranger -----------------------------------------------------------------------------------


async def test_stranger_is_told_and_nothing_is_taken_from_it(
    checkouts: tuple[Checkout, Checkout], stack: StackAddresses, namespace: str
) -> None:
    ours, theirs = checkouts
    number = f"REQ-{secrets.token_hex(3)}"
    elsewhere = f"elsewhere-{secrets.token_hex(4)}"
    await create_namespace(stack.temporal_address, elsewhere)
    upgrade(ours.database_url)
    assert ours.cli("start", number, "--title", "x").code == 0  # first contact binds
    await theirs.worker.start(TEMPORAL_NAMESPACE=elsewhere)
    (their_id,) = theirs.execute("SELECT id FROM installation")[0]
    (our_id,) = ours.execute("SELECT id FROM installation")[0]
    address = stack.temporal_address

    assert await ours.worker.refuses(TEMPORAL_NAMESPACE=elsewhere) == 6
    for text in (
        ours.worker.log,
        ours.cli("start", f"{number}-1", "--title", "x", TEMPORAL_NAMESPACE=elsewhere).err,
        ours.cli("cancel", number, TEMPORAL_NAMESPACE=elsewhere).err,
        ours.cli("status", number, TEMPORAL_NAMESPACE=elsewhere).out,
        ours.cli("doctor", "--dependencies", TEMPORAL_NAMESPACE=elsewhere).out,
    ):
        plain = " ".join(text.split())
        assert f"Temporal at {address} belongs to another installation" in plain, text
        assert f"namespace {elsewhere}" in plain
        assert their_id[:8] in plain
        assert our_id[:8] in plain
        assert "starter.py bind" in plain
    assert ours.cli("status", f"{number}-1").code == 3
    said = ours.cli("start", f"{number}-1", "--title", "x", TEMPORAL_NAMESPACE=elsewhere)
    assert said.code == 6
    temporal = await Client.connect(address, namespace=elsewhere)
    ids = [each.id async for each in temporal.list_workflows()]
    assert [each for each in ids if number in each or our_id[:8] in each] == []


async def test_move_to_another_temporal_is_deliberate(
    checkouts: tuple[Checkout, Checkout], stack: StackAddresses
) -> None:
    ours, _ = checkouts
    number = f"REQ-{secrets.token_hex(3)}"
    moved = f"moved-{secrets.token_hex(4)}"
    await create_namespace(stack.temporal_address, moved)
    upgrade(ours.database_url)
    assert ours.cli("start", number, "--title", "x").code == 0

    refused = ours.cli("bind", TEMPORAL_NAMESPACE=moved)
    assert refused.code == 2
    assert number in refused.err
    assert "--force" in refused.err
    assert ours.cli("bind").code == 0  # it is bound there already
    forced = ours.cli("bind", "--force", TEMPORAL_NAMESPACE=moved)
    assert forced.code == 0, forced.err

    await ours.worker.start(TEMPORAL_NAMESPACE=moved)
    assert (
        ours.cli("start", f"{number}-2", "--title", "x", "--wait", TEMPORAL_NAMESPACE=moved).code
        == 0
    )
    assert ours.cli("start", f"{number}-3", "--title", "x").code == 6


async def test_worker_ends_when_its_database_becomes_that_of_another_installation(
    checkouts: tuple[Checkout, Checkout],
) -> None:
    ours, _ = checkouts
    await ours.worker.start()

    ours.execute("UPDATE installation SET id = 'ffffffff-0000-0000-0000-000000000000'")

    assert await ours.worker.ended() == 6
    assert "belongs to another installation" in ours.worker.log


async def test_worker_ends_when_it_is_bound_elsewhere_under_its_feet(
    checkouts: tuple[Checkout, Checkout], stack: StackAddresses
) -> None:
    ours, _ = checkouts
    moved = f"moved-{secrets.token_hex(4)}"
    await create_namespace(stack.temporal_address, moved)
    await ours.worker.start()

    assert ours.cli("bind", TEMPORAL_NAMESPACE=moved).code == 0  # nothing is open

    assert await ours.worker.ended() == 6


async def test_workers_that_meet_at_first_contact_share_one_identity(
    stack: StackAddresses, postgres_server: PostgresServer, namespace: str, tmp_path: Path
) -> None:
    database = postgres_server.clone(TEMPLATE)
    pair = [
        checkout(stack, namespace, tmp_path / name, postgres_server.url(database)) for name in "ab"
    ]
    try:
        await asyncio.gather(
            *(each.worker.start(AGOG_HOST=f"host-{n}") for n, each in enumerate(pair))
        )
        assert len(pair[0].execute("SELECT id FROM installation")) == 1
        number = f"REQ-{secrets.token_hex(3)}"
        assert pair[1].cli("start", number, "--title", "x", "--wait").code == 0
        for each in pair:
            assert each.worker.stop() == 0
    finally:
        for each in pair:
            each.worker.close()
        postgres_server.drop(database)
