import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from adapters import health_probe
from adapters.health import WorkerFacts, health_endpoint, worker_file
from adapters.readiness import Dependency, WatchedDependencies
from pipeline.errors import DependencyUnavailable, RefusedInput
from tests.eventually import Stopwatch, eventually
from tests.ports import own_port

FACTS = WorkerFacts("an-id", "host-1", "1.2.3", "/shop", lambda: (2, 4))


class Server:
    """A dependency that the test takes away."""

    is_down = False

    async def ask(self) -> None:
        if self.is_down:
            raise DependencyUnavailable("NATS", "localhost:4223", "Start it.")


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def watched(server: Server) -> AsyncIterator[WatchedDependencies]:
    watched = WatchedDependencies([Dependency("NATS", "localhost:4223", "Start it.", server.ask)])
    watch = asyncio.create_task(watched.watch())
    yield watched
    watch.cancel()
    await asyncio.wait({watch})


@pytest.fixture
async def address(watched: WatchedDependencies) -> AsyncIterator[str]:
    async with health_endpoint(own_port(), watched, FACTS) as address:
        yield address


async def send(address: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
    writer.write(request)
    answer = await reader.read()
    writer.close()
    return answer


async def get(address: str, path: str) -> tuple[int, Any]:
    answer = await send(address, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


async def test_worker_that_is_ready_says_everything_about_itself(
    address: str, watched: WatchedDependencies
) -> None:
    await eventually(lambda: watched.statuses[0].latency_seconds is not None, "an answer")

    status, document = await get(address, "/readyz?verbose")

    (dependency,) = document.pop("dependencies")
    assert (status, document) == (
        200,
        {
            "schema_version": 1,
            "ready": True,
            "installation": "an-id",
            "host": "host-1",
            "version": "1.2.3",
            "slots": {"used": 2, "limit": 4},
        },
    )
    assert dependency.pop("latency_ms") >= 0
    assert dependency.pop("since").endswith("+00:00")
    assert dependency == {"name": "NATS", "address": "localhost:4223", "ok": True, "problem": ""}


async def test_worker_that_is_not_ready_lives_and_says_why(
    address: str, watched: WatchedDependencies, server: Server
) -> None:
    server.is_down = True
    await eventually(lambda: not watched.is_ready, "an outage")

    status, document = await get(address, "/readyz")

    assert (status, document["ready"]) == (503, False)
    assert document["dependencies"][0]["ok"] is False
    assert "NATS cannot be reached" in document["dependencies"][0]["problem"]
    assert await get(address, "/livez") == (200, {"live": True})


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /secrets HTTP/1.1\r\n\r\n", b"404"),
        (b"DELETE /readyz HTTP/1.1\r\n\r\n", b"405"),
        (b"\x16\x03\x01 no HTTP at all\r\n\r\n", b"405"),
    ],
)
async def test_requests_that_are_not_for_us_are_refused(
    address: str, request_: bytes, status: bytes
) -> None:
    assert (await send(address, request_)).split()[1] == status
    assert (await get(address, "/livez"))[0] == 200


async def test_request_without_an_end_is_cut_off(address: str) -> None:
    with suppress(ConnectionError):  # what is on its way when the server closes is reset
        await send(address, b"GET /" + b"a" * 1_000_000)

    assert (await get(address, "/livez"))[0] == 200


async def test_head_gets_no_body(address: str) -> None:
    answer = await send(address, b"HEAD /livez HTTP/1.1\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


async def test_client_that_says_nothing_is_given_up(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.health._REQUEST_SECONDS", 0.2)

    with Stopwatch() as watch:
        assert await send(address, b"GET /liv") == b""

    assert watch.seconds < 5


async def test_second_worker_of_a_machine_answers_elsewhere(
    watched: WatchedDependencies, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        port = first.getsockname()[1]

        async with health_endpoint(port, watched, FACTS) as address:
            assert (await get(address, "/livez"))[0] == 200

    assert f"Port {port} of AGOG_HEALTH_PORT is taken: health is on " in caplog.text


async def test_port_that_cannot_be_had_is_refused_by_its_setting(
    watched: WatchedDependencies, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.health.LOOPBACK", "192.0.2.1")  # nobody's: RFC 5737

    with pytest.raises(RefusedInput, match="AGOG_HEALTH_PORT cannot be used"):
        async with health_endpoint(own_port(), watched, FACTS):
            pass


async def test_probe_finds_the_worker_by_its_state_directory(
    address: str,
    watched: WatchedDependencies,
    server: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with worker_file(tmp_path, FACTS, address):
        assert await asyncio.to_thread(health_probe.main, tmp_path) == 0
        server.is_down = True
        await eventually(lambda: not watched.is_ready, "an outage")
        assert await asyncio.to_thread(health_probe.main, tmp_path) == 1
    assert "NATS cannot be reached" in capsys.readouterr().out


@pytest.mark.parametrize("address_", [None, "http://127.0.0.1:1"])
def test_probe_of_a_worker_that_says_nothing_is_red(
    tmp_path: Path, address_: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert health_probe.main(tmp_path) == 1  # no worker at all
    with worker_file(tmp_path, FACTS, address_):
        assert health_probe.main(tmp_path) == 1
    assert capsys.readouterr().err.count("\n") == 2
