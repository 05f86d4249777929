"""Outages as a worker sees them: ten seconds to notice one, five to notice its end."""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress

import psutil
import pytest

from adapters.nats.events import NatsEventPublisher, connect
from adapters.readiness import Dependency, WatchedDependencies, nats_and_database
from pipeline.errors import DependencyUnavailable
from tests.eventually import Stopwatch, eventually
from tests.fixtures_sdlc import NatsServer, PostgresServer
from tests.ports import own_port

NOTICED_SECONDS, BACK_SECONDS = 10.0, 5.0


@pytest.fixture(scope="module")
def own_postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A database server that a test may stop, if it starts it again."""
    directory = tmp_path_factory.mktemp("own-postgres")
    server = PostgresServer(directory, own_port(), "secret")
    server.create()
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def watched(
    nats_server: NatsServer, nats_publisher: NatsEventPublisher, own_postgres: PostgresServer
) -> AsyncIterator[WatchedDependencies]:
    url = own_postgres.url("postgres")
    dependencies = WatchedDependencies(nats_and_database(nats_publisher, nats_server.url, url))
    watch = asyncio.create_task(dependencies.watch())
    yield dependencies
    watch.cancel()
    await asyncio.wait({watch})


@asynccontextmanager
async def noticed(
    watched: WatchedDependencies, name: str, address: str, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[None]:
    """What happened before is noticed in time; what the block ends, too, and each is said once."""
    await _turns(watched, NOTICED_SECONDS, is_ready=False)
    with pytest.raises(DependencyUnavailable, match=rf"^{name} cannot be reached at {address}"):
        watched.check()
    yield
    await _turns(watched, BACK_SECONDS, is_ready=True)
    watched.check()
    said = [each.message for each in caplog.records if each.name == "adapters.readiness"]
    assert [message.startswith(f"{name} is down: nothing starts") for message in said] == [
        True,
        False,
    ]
    assert f"{name} at {address} is back after " in said[1]


async def _turns(watched: WatchedDependencies, seconds: float, *, is_ready: bool) -> None:
    word = "back" if is_ready else "noticed"
    with Stopwatch() as watch:
        await eventually(lambda: watched.is_ready is is_ready, f"an outage {word}")
    assert watch.seconds < seconds


async def test_worker_whose_dependencies_answer_is_ready(watched: WatchedDependencies) -> None:
    await eventually(
        lambda: all(each.latency_seconds for each in watched.statuses), "answers of both"
    )

    watched.check()
    assert [(each.name, each.is_well) for each in watched.statuses] == [
        ("NATS", True),
        ("SDLC database", True),
    ]


async def test_stopped_nats_is_noticed_and_its_return_too(
    watched: WatchedDependencies, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    nats_server.stop()
    async with noticed(watched, "NATS", f"127.0.0.1:{nats_server.port}", caplog):
        nats_server.start()


async def test_hung_nats_is_noticed_and_its_return_too(
    watched: WatchedDependencies, nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert nats_server.process
    server = psutil.Process(nats_server.process.pid)
    server.send_signal(signal.SIGSTOP)
    async with noticed(watched, "NATS", f"127.0.0.1:{nats_server.port}", caplog):
        server.send_signal(signal.SIGCONT)


async def test_stopped_database_is_noticed_and_its_return_too(
    watched: WatchedDependencies, own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    own_postgres.stop()
    address = f"127.0.0.1:{own_postgres.port}/postgres"
    async with noticed(watched, "SDLC database", address, caplog):
        own_postgres.start()


async def test_hung_database_is_noticed_and_its_return_too(
    watched: WatchedDependencies, own_postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    assert own_postgres.process
    postmaster = psutil.Process(own_postgres.process.pid)
    everybody = [postmaster, *postmaster.children(recursive=True)]
    _signal(everybody, signal.SIGSTOP)
    address = f"127.0.0.1:{own_postgres.port}/postgres"
    async with noticed(watched, "SDLC database", address, caplog):
        _signal(everybody, signal.SIGCONT)


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # it served somebody who is gone
            process.send_signal(number)


class Tap:
    """A way to a server that can be cut off: what is on it is lost, and nobody is told."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._is_open = asyncio.Event()
        self._is_open.set()
        self._streams: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    async def __aenter__(self) -> "Tap":
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for stream in self._streams:
            stream.close()

    def cut(self) -> None:
        self._is_open.clear()

    def mend(self) -> None:
        self._is_open.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._streams.append(writer)
        await self._is_open.wait()
        there, back = await asyncio.open_connection("127.0.0.1", self._server_port)
        self._streams.append(back)
        for source, sink in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(self._pass(source, sink)))

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while some := await source.read(65_536):
            if self._is_open.is_set():
                sink.write(some)
        sink.close()


async def test_connection_that_swallows_everything_is_given_up_and_made_anew(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with Tap(nats_server.port) as tap:
        url = f"nats://127.0.0.1:{tap.port}"
        publisher = await connect(url, "agog", nats_server.password)
        nats, _ = nats_and_database(publisher, url, "postgresql+psycopg://nobody@localhost/none")
        watched = WatchedDependencies((nats,))
        watch = asyncio.create_task(watched.watch())
        try:
            tap.cut()
            async with noticed(watched, "NATS", f"127.0.0.1:{tap.port}", caplog):
                tap.mend()
        finally:
            watch.cancel()
            await asyncio.wait({watch})
            await publisher.close()


async def test_one_that_never_answers_delays_no_other() -> None:
    asked = 0

    async def hang() -> None:
        await asyncio.Event().wait()

    async def answer() -> None:
        nonlocal asked
        asked += 1

    names = {"hung": hang, "well": answer}
    watched = WatchedDependencies(
        [Dependency(name, "nowhere", "Wait.", ask) for name, ask in names.items()]
    )
    watch = asyncio.create_task(watched.watch())
    await eventually(lambda: asked > 1, "a second answer")
    await eventually(lambda: not watched.is_ready, "the hung one found out")

    assert [each.problem for each in watched.statuses] == ["no answer in 4 s", ""]
    watch.cancel()
    await asyncio.wait({watch})
