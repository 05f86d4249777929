import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from adapters.local_stack import LocalStack, StackAddresses, StackIncident
from adapters.local_stack.child import recorded_process
from adapters.local_stack.nats_server import NatsServer
from adapters.local_stack.postgres_server import PostgresServer
from adapters.local_stack.restarting import ServerRestarts
from adapters.local_stack.state import is_embedded
from adapters.nats.connection import NatsLogin
from adapters.readiness import probe_database, probe_nats
from pipeline.errors import ServerNotStarted
from tests.eventually import eventually
from tests.stack_usage import (
    connect_database,
    connect_nats,
    keep_own_ports,
    processes_naming,
    until,
)

REPOSITORY = Path(__file__).resolve().parents[3]
KEEPER = Path(__file__).with_name("keep_stack.py")


class Kept:
    """NATS and PostgreSQL under a keeper of this process."""

    def __init__(self, home: Path, addresses: StackAddresses) -> None:
        self.home = home
        self.addresses = addresses
        self.incidents: list[StackIncident] = []
        self.nats = NatsServer(home), addresses.nats_url
        self.postgres = PostgresServer(home), addresses.database_url


@pytest.fixture
async def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Kept]:
    monkeypatch.setattr("adapters.local_stack.restarting.READY_SECONDS", 0.0)
    keep_own_ports(tmp_path)
    stack = LocalStack(tmp_path, temporal_address="10.0.0.1:7233")
    kept = Kept(tmp_path, await stack.start())
    watching = asyncio.create_task(stack.watch(kept.incidents.append))
    yield kept
    await stack.stop()
    await watching


async def test_hung_nats_is_ended_and_started_by_its_keeper_without_a_pause(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep, pauses = asyncio.sleep, list[float]()

    async def noted(seconds: float, result: object = None) -> object:
        pauses.append(seconds)
        return await sleep(seconds, result)

    restarts = ServerRestarts(kept.home)
    async with connect_nats(kept.addresses) as events:
        await events.jetstream().add_stream(name="s", subjects=["s"])
    monkeypatch.setattr("adapters.local_stack.stack.asyncio.sleep", noted)
    for _ in range(3):  # each is a setback that would double the pause, had the server crashed
        (server,) = processes_naming(str(kept.home / "nats" / "nats.conf"))
        server.suspend()
        said = await restarts.restart(*kept.nats)
        assert said == "NATS was ended, and was started again by `up`."
        await until(lambda: _is_back("NATS", kept))
        kept.incidents.clear()

    assert not {1.0, 3.0} & set(pauses)  # those of a second and a third setback
    async with connect_nats(kept.addresses) as events:
        assert (await events.jetstream().stream_info("s")).config.name == "s"


async def test_hung_database_is_ended_with_everything_that_holds_its_data(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.local_stack.child.STOP_SECONDS", 1.0)
    async with await connect_database(kept.addresses) as database:
        await database.execute("CREATE TABLE kept (word text)")
    postmaster = recorded_process(kept.home, "postgres")
    assert postmaster
    below = postmaster.children(recursive=True)
    assert below
    for process in [postmaster, *below]:
        with suppress(psutil.NoSuchProcess):  # it served the connection that was just closed
            process.send_signal(signal.SIGSTOP)

    await ServerRestarts(kept.home).restart(*kept.postgres)
    await until(lambda: _is_back("PostgreSQL", kept))

    async with await connect_database(kept.addresses) as database:
        await database.execute("SELECT word FROM kept")
    assert not any(map(_lives, below))


async def test_killed_database_is_started_at_once_though_what_it_had_started_lives_on(
    kept: Kept,
) -> None:
    """As on a busy machine: they end when they notice, and hold its data until then."""
    postmaster = recorded_process(kept.home, "postgres")
    assert postmaster
    below = postmaster.children(recursive=True)
    for process in below:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGSTOP)

    postmaster.kill()
    await until(lambda: bool(kept.incidents))

    assert [(each.member, each.is_recovered) for each in kept.incidents] == [("PostgreSQL", True)]
    assert not any(map(_lives, below))


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


async def test_dead_server_is_left_to_its_keeper(kept: Kept) -> None:
    (server,) = processes_naming(str(kept.home / "nats" / "nats.conf"))
    server.kill()
    server.wait()

    said = await ServerRestarts(kept.home).restart(*kept.nats)

    assert said in {
        "NATS was dead, and was started again by `up`.",
        "NATS was ended, and was started again by `up`.",  # the keeper was quicker
    }
    await eventually(
        lambda: len(processes_naming(str(kept.home / "nats" / "nats.conf"))) == 1, "one server"
    )


async def test_server_that_has_just_started_is_given_time(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.local_stack.restarting.READY_SECONDS", 30.0)
    before = recorded_process(kept.home, "postgres")

    said = await ServerRestarts(kept.home).restart(*kept.postgres)

    assert said.endswith("s ago and is given time.")
    assert recorded_process(kept.home, "postgres") == before


def _is_back(member: str, kept: Kept) -> bool:
    return any(each.member == member and each.is_recovered for each in kept.incidents)


@pytest.fixture
def orphaned(tmp_path: Path) -> Iterator[StackAddresses]:
    """NATS and PostgreSQL whose keeper was killed."""
    keep_own_ports(tmp_path)
    keeper = subprocess.Popen(
        (sys.executable, str(KEEPER), str(tmp_path), "10.0.0.1:7233"),
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/local/bin:/usr/bin:/bin"},
        start_new_session=True,
    )
    try:
        asyncio.run(eventually(lambda: bool(_settings(tmp_path)), "a stack"))
    finally:
        keeper.kill()
        keeper.wait()
    yield StackAddresses.from_settings(_settings(tmp_path))
    for process in processes_naming(str(tmp_path)):
        process.kill()
        process.wait()


def _settings(home: Path) -> dict[str, str]:
    settings: dict[str, str] = json.loads((home / "stack.json").read_text())["settings"]
    return settings


def test_orphaned_servers_are_started_from_here_and_ended_by_the_next_stack(
    orphaned: StackAddresses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.local_stack.restarting.READY_SECONDS", 0.0)
    asyncio.run(_restart_orphans(orphaned, tmp_path))


async def _restart_orphans(orphaned: StackAddresses, home: Path) -> None:
    restarts = ServerRestarts(home)
    assert orphaned.nats_user
    login = NatsLogin(orphaned.nats_url, orphaned.nats_user, orphaned.nats_password)
    for _ in range(2):
        said = await restarts.restart(NatsServer(home), orphaned.nats_url)
        assert said == "NATS was started without `starter.py up`, which was killed."
        await probe_nats(login)
    for name in ("nats", "postgres"):
        server = recorded_process(home, name)
        assert server
        server.kill()
    await asyncio.gather(  # neither passes for the keeper of the other
        restarts.restart(NatsServer(home), orphaned.nats_url),
        restarts.restart(PostgresServer(home), orphaned.database_url),
    )
    await probe_nats(login)
    await probe_database(orphaned.database_url)

    async with LocalStack(home, temporal_address="10.0.0.1:7233") as addresses:
        assert addresses == orphaned
        assert len(processes_naming(str(home / "nats" / "nats.conf"))) == 1
    assert processes_naming(str(home)) == []
    for member in restarts._started.values():
        await member.stop()  # reaps what this process has started and the stack has ended


async def test_server_that_its_user_has_stopped_stays_stopped(tmp_path: Path) -> None:
    keep_own_ports(tmp_path)
    stack = LocalStack(tmp_path, temporal_address="10.0.0.1:7233", database_url="x://d")
    addresses = await stack.start()
    assert is_embedded(tmp_path, "nats", addresses.nats_url)
    assert not is_embedded(tmp_path, "nats", "nats://127.0.0.1:1")
    assert not is_embedded(tmp_path, "postgres", "x://d")
    await stack.stop()

    assert not is_embedded(tmp_path, "nats", addresses.nats_url)
    with pytest.raises(ServerNotStarted, match="its stack was stopped"):
        await ServerRestarts(tmp_path).restart(NatsServer(tmp_path), addresses.nats_url)
    assert processes_naming(str(tmp_path)) == []
