import signal
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest

from adapters.nats.connection import NatsLogin
from adapters.readiness import probe_database, probe_nats
from pipeline.errors import DependencyUnavailable
from tests.eventually import Stopwatch
from tests.fixtures_sdlc import NatsServer, PostgresServer
from tests.ports import own_port

Probe = Callable[[int], Awaitable[None]]


async def ask_nats(port: int) -> None:
    await probe_nats(NatsLogin(f"nats://me:hidden@127.0.0.1:{port}", "me", "hidden"))


async def ask_database(port: int) -> None:
    await probe_database(f"postgresql+psycopg://me:hidden@127.0.0.1:{port}/agog")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Connections are accepted by the kernel, and nobody answers on them."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        yield silent.getsockname()[1]


@pytest.mark.parametrize("probe", [ask_nats, ask_database])
async def test_closed_port_is_named_without_the_password(probe: Probe) -> None:
    port = own_port()

    with pytest.raises(
        DependencyUnavailable, match=rf"cannot be reached at 127\.0\.0\.1:{port}"
    ) as e:
        await probe(port)

    assert "hidden" not in str(e.value)


@pytest.mark.parametrize("probe", [ask_nats, ask_database])
async def test_silence_is_given_up_within_five_seconds(probe: Probe, silent_port: int) -> None:
    with Stopwatch() as watch, pytest.raises(DependencyUnavailable):
        await probe(silent_port)

    assert watch.seconds < 5


async def test_nats_that_is_stopped_in_mid_air_is_found(nats_server: NatsServer) -> None:
    login = NatsLogin(nats_server.url, "agog", nats_server.password)
    await probe_nats(login)
    assert nats_server.process
    nats_server.process.send_signal(signal.SIGSTOP)
    try:
        with pytest.raises(DependencyUnavailable):
            await probe_nats(login)
    finally:
        nats_server.process.send_signal(signal.SIGCONT)
    await probe_nats(login)


async def test_database_that_answers_passes(postgres_server: PostgresServer) -> None:
    await probe_database(postgres_server.url("postgres"))


async def test_wrong_passwords_are_refused(
    nats_server: NatsServer, postgres_server: PostgresServer
) -> None:
    with pytest.raises(DependencyUnavailable, match="Authorization"):
        await probe_nats(NatsLogin(nats_server.url, "agog", "wrong"))
    url = postgres_server.url("postgres").replace(postgres_server.password, "wrong")
    with pytest.raises(DependencyUnavailable, match="password authentication failed"):
        await probe_database(url)
