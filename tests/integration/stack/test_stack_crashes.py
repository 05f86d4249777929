import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from adapters.local_stack import ChildSpec, LocalStack, StackIncident, read_stack
from adapters.local_stack.child import identify
from pipeline.errors import ServerNotStarted
from settings import Settings
from tests.stack_usage import (
    connect_nats,
    find_traces,
    keep_own_ports,
    leave_traces,
    processes_naming,
    until,
)

REPOSITORY = Path(__file__).resolve().parents[3]
SLEEPER = (sys.executable, "-c", "import signal; signal.pause()")
MEMBERS = {
    "Temporal": "start-dev",
    "PostgreSQL": "unix_socket_directories=",
    "NATS": "nats.conf",
    "worker": "signal.pause",
}


async def test_killed_members_come_back_on_the_same_ports_with_their_data(tmp_path: Path) -> None:
    keep_own_ports(tmp_path)
    worker = ChildSpec("worker", (*SLEEPER, str(tmp_path)), {})
    stack = LocalStack(tmp_path, children=(worker,))
    addresses = await stack.start()
    incidents: list[StackIncident] = []
    watching = asyncio.create_task(stack.watch(incidents.append))
    try:
        await leave_traces(addresses, "REQ-WATCHED")
        for title, word in MEMBERS.items():
            (victim,) = [
                p for p in processes_naming(str(tmp_path)) if word in " ".join(p.cmdline())
            ]
            victim.kill()
            await until(lambda title=title: recovered(title, incidents))  # type: ignore[misc] # default
        await find_traces(addresses, "REQ-WATCHED")
        assert "exited with code -9 (its log: " in incidents[0].problem
        assert read_stack(tmp_path) == addresses
    finally:
        await stack.stop()
        await watching
    assert processes_naming(str(tmp_path)) == []


def recovered(title: str, incidents: list[StackIncident]) -> bool:
    return any(incident.member == title and incident.is_recovered for incident in incidents)


def start(argv: Sequence[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(argv, env=env, start_new_session=True)


async def test_stack_follows_a_killed_one_and_keeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NATS_URL", "TEMPORAL_ADDRESS", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AGOG_HOME", str(tmp_path))
    keep_own_ports(tmp_path)
    keeper = start(
        (sys.executable, str(Path(__file__).with_name("keep_stack.py")), str(tmp_path)),
        env={"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]},
    )
    await until(lambda: read_stack(tmp_path) is not None)
    addresses = read_stack(tmp_path)
    assert addresses
    assert Settings().nats_url == addresses.nats_url
    await leave_traces(addresses, "REQ-ORPHAN")
    left = processes_naming(str(tmp_path))
    keeper.kill()
    keeper.wait()
    assert read_stack(tmp_path) is None
    assert Settings().temporal_address is None

    stack = LocalStack(tmp_path)
    try:
        assert await stack.start() == addresses
        assert stack.leftovers == ("nats", "postgres", "temporal")
        assert not {p.pid for p in left} & {p.pid for p in processes_naming(str(tmp_path))}
        await find_traces(addresses, "REQ-ORPHAN")
    finally:
        await stack.stop()


async def test_stale_records_that_name_a_living_stranger_are_survived(tmp_path: Path) -> None:
    stranger = start(SLEEPER)
    try:
        first = LocalStack(tmp_path, temporal_address="10.0.0.1:7233", nats_url="nats://10.0.0.1")
        await first.start()
        await first.stop()
        identity = identify(stranger.pid)
        assert identity
        record = {**asdict(identity), "create_time": identity.create_time - 60, "stop_signal": 15}
        (tmp_path / "stack" / "postgres.json").write_text(json.dumps(record))
        (tmp_path / "postgres" / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n")

        again = LocalStack(tmp_path, temporal_address="10.0.0.1:7233", nats_url="nats://10.0.0.1")
        await again.start()
        await again.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


async def test_server_that_cannot_start_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "nats").mkdir()
    (tmp_path / "nats" / "jetstream").write_text("in the way")
    stack = LocalStack(tmp_path, temporal_address="10.0.0.1:7233", database_url="postgresql://d")
    with pytest.raises(ServerNotStarted, match=r"NATS could not be started") as refusal:
        await stack.start()
    assert "storage directory is not a directory" in str(refusal.value)
    assert processes_naming(str(tmp_path)) == []
    (tmp_path / "nats" / "jetstream").unlink()
    repaired = LocalStack(tmp_path, temporal_address="10.0.0.1:7233", database_url="x://d")
    async with connect_nats(await repaired.start()):
        pass
    await repaired.stop()


async def test_child_that_ignores_its_signal_is_killed_after_the_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.local_stack.child.STOP_SECONDS", 0.2)
    program = "import signal; signal.signal(15, signal.SIG_IGN); print('deaf', flush=True)\n"
    child = ChildSpec("deaf", (sys.executable, "-c", f"{program}while True: signal.pause()"), {})
    stack = LocalStack(
        tmp_path,
        temporal_address="10.0.0.1:7233",
        nats_url="nats://10.0.0.1",
        database_url="x://d",
        children=(child,),
    )
    await stack.start()
    log = tmp_path / "logs" / "deaf.log"
    await until(lambda: log.read_text() == "deaf\n")
    record = json.loads((tmp_path / "stack" / "deaf.json").read_text())
    await stack.stop()
    assert not psutil.pid_exists(record["pid"])
