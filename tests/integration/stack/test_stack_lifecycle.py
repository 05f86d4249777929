import asyncio
import json
import os
import socket
import stat
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from adapters.local_stack import Child, ChildSpec, LocalStack, StackAddresses, read_stack
from adapters.local_stack.server import choose_ports, is_free
from adapters.local_stack.temporal_server import TemporalServer
from adapters.temporal.client import SEARCH_ATTRIBUTES
from pipeline.errors import RefusedInput
from tests.stack_usage import (
    connect_nats,
    find_traces,
    keep_own_ports,
    leave_traces,
    processes_naming,
    until,
)

ELSEWHERE = {"temporal_address": "10.0.0.1:7233", "database_url": "postgresql+psycopg://u@h/d"}


def only_nats(home: Path, **options: object) -> LocalStack:
    """The quickest stack that there is."""
    return LocalStack(home, **ELSEWHERE, **options)  # type: ignore[arg-type] # forwarded as given


async def test_data_and_ports_survive_a_restart_and_a_stop_leaves_nothing_alive(
    tmp_path: Path,
) -> None:
    keep_own_ports(tmp_path)
    first = LocalStack(tmp_path)
    addresses = await first.start()
    try:
        assert read_stack(tmp_path) == addresses
        check_secrets(addresses, tmp_path)
        assert set(SEARCH_ATTRIBUTES) <= await search_attributes(addresses)
        await leave_traces(addresses, "REQ-KEPT")
    finally:
        await first.stop()
    assert processes_naming(str(tmp_path)) == []
    assert read_stack(tmp_path) is None

    second = LocalStack(tmp_path)
    assert await second.start() == addresses
    try:
        await find_traces(addresses, "REQ-KEPT")
    finally:
        await second.stop()


def check_secrets(addresses: StackAddresses, home: Path) -> None:
    """Servers keep their secrets to their owner, and listen to this host alone."""
    assert addresses.nats_password
    database_password = addresses.database_url.partition("://agog:")[2].partition("@")[0]
    for secret in (addresses.nats_password, database_password):
        assert len(secret) >= 24
        assert processes_naming(secret) == []
        assert secret not in repr(addresses)
        for file in files_holding(secret, home):
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
    servers = processes_naming(str(home))
    assert {process.name() for process in servers} == {"temporal", "postgres", "nats-server"}
    for process in servers:
        listening = (c for c in process.net_connections() if c.status == "LISTEN")
        assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def files_holding(secret: str, home: Path) -> list[Path]:
    found = []
    for folder, _, names in os.walk(home):
        for file in (Path(folder, name) for name in names):
            with suppress(FileNotFoundError):  # servers at work remove files of theirs
                if file.is_file() and secret.encode() in file.read_bytes():
                    found.append(file)
    assert found
    return found


async def test_second_stack_on_a_state_directory_is_refused_with_the_address_of_the_first(
    tmp_path: Path,
) -> None:
    first = only_nats(tmp_path)
    addresses = await first.start()
    try:
        with pytest.raises(RefusedInput, match=r"10\.0\.0\.1:7233"):
            await only_nats(tmp_path).start()
        assert read_stack(tmp_path) == addresses
        async with connect_nats(addresses) as events:
            await events.jetstream().account_info()
    finally:
        await first.stop()


async def test_taken_port_is_replaced_reported_and_kept(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wished = taken.getsockname()[1]
        (tmp_path / "stack.json").write_text(
            json.dumps({"settings": {}, "ports": {"nats": wished}})
        )
        stack = only_nats(tmp_path)
        addresses = await stack.start()
        await stack.stop()
    assert not addresses.nats_url.endswith(f":{wished}")
    (moved,) = stack.moved_ports
    assert addresses.nats_url.endswith(f":{moved.actual}")

    again = only_nats(tmp_path)
    assert (await again.start()).nats_url == addresses.nats_url
    await again.stop()


async def test_stacks_that_start_at_once_share_no_port(tmp_path: Path) -> None:
    stacks = [only_nats(tmp_path / name) for name in ("one", "two", "three")]
    try:
        addresses = await asyncio.gather(*(stack.start() for stack in stacks))
        assert len({one.nats_url for one in addresses}) == len(stacks)
        for one in addresses:
            async with connect_nats(one) as events:
                await events.jetstream().account_info()
    finally:
        for stack in stacks:
            await stack.stop()


async def test_older_temporal_database_gets_the_missing_search_attributes(tmp_path: Path) -> None:
    server = TemporalServer(tmp_path)
    ports = choose_ports(server.preferred_ports)
    spec = server.prepare(ports)
    argv = tuple(word for word in spec.argv if not word.startswith("--search-attribute"))
    older = Child(replace(spec, argv=argv), tmp_path)
    older.start()
    await until(lambda: not is_free(ports["temporal"]))
    await older.stop()

    only_temporal = LocalStack(tmp_path, nats_url="nats://10.0.0.1", database_url="x://d")
    async with only_temporal as addresses:
        assert set(SEARCH_ATTRIBUTES) <= await search_attributes(addresses)


async def search_attributes(addresses: StackAddresses) -> set[str]:
    temporal = await Client.connect(addresses.temporal_address)
    request = ListSearchAttributesRequest(namespace="default")
    return set((await temporal.operator_service.list_search_attributes(request)).custom_attributes)


async def test_services_of_the_environment_are_used_and_not_started(tmp_path: Path) -> None:
    stack = only_nats(tmp_path, nats_url="nats://10.0.0.1:4222", nats_user="me")
    addresses = await stack.start()
    try:
        assert processes_naming(str(tmp_path)) == []
        assert (addresses.temporal_address, addresses.nats_url) == (
            "10.0.0.1:7233",
            "nats://10.0.0.1:4222",
        )
        assert addresses.nats_user == "me"
    finally:
        await stack.stop()


async def test_children_start_after_the_servers_and_stop_before_them(tmp_path: Path) -> None:
    program = """
import json, pathlib, signal, socket, sys
home = pathlib.Path(sys.argv[1])
port = json.loads((home / "stack.json").read_text())["ports"]["nats"]
def reach(name):
    socket.create_connection(("127.0.0.1", port)).close()
    (home / name).touch()
def end(*_):
    reach("ended")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
reach("begun")
while True:
    signal.pause()
"""
    child = ChildSpec("worker", (sys.executable, "-c", program, str(tmp_path)), {})
    stack = only_nats(tmp_path, children=(child,))
    await stack.start()
    await until((tmp_path / "begun").exists)
    await stack.stop()
    assert (tmp_path / "ended").exists()
    assert processes_naming(str(tmp_path)) == []


async def test_embedded_nats_is_signed_in_to_as_the_environment_names(tmp_path: Path) -> None:
    """A password in `.env`, meant for containers, must not lock the worker out."""
    stack = only_nats(tmp_path, nats_user="me", nats_password='mi"ne')
    async with stack as addresses:
        assert (addresses.nats_user, addresses.nats_password) == ("me", 'mi"ne')
        async with connect_nats(addresses) as events:
            await events.jetstream().account_info()
