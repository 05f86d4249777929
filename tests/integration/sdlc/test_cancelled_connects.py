"""Whoever is cancelled while it connects leaves no connection behind, wherever that happens.

The event loop counts as busy: then psycopg pauses where it otherwise never does.
"""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg.waiting
import pytest
from psycopg import sql
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.local_stack.postgres_server import PostgresServer as EmbeddedPostgres
from adapters.nats.connection import NatsLogin, open_connection
from adapters.readiness import probe_database, probe_nats
from adapters.sdlc.database import Database, async_engine
from adapters.sdlc.transaction import read_together
from tests.eventually import eventually
from tests.fixtures_sdlc import NatsServer, PostgresServer

MOST_PAUSES = 120
Work = Coroutine[Any, Any, object]
Case = AbstractAsyncContextManager[Callable[[], Work]]


class Cancelled:
    """The work, cancelled at its nth pause: while it waits, or when that wait is just over."""

    def __init__(self, work: Work, nth: int, *, late: bool) -> None:
        self._work = work
        self._nth = nth
        self._late = late
        self.pauses = 0

    @property
    def was_cancelled(self) -> bool:
        return self.pauses >= self._nth

    def __await__(self) -> Generator[Any, Any, None]:
        thrown: BaseException | None = None
        with suppress(StopIteration, asyncio.CancelledError):
            while True:
                paused = self._work.throw(thrown) if thrown else self._work.send(None)
                self.pauses += 1
                is_now = self.pauses == self._nth
                thrown = asyncio.CancelledError() if is_now else None
                if is_now and not self._late:
                    if paused is not None:
                        paused._asyncio_future_blocking = False
                        paused.cancel()
                    continue
                try:
                    yield paused
                except BaseException as error:
                    thrown = thrown or error


async def leaves_nothing(case: Callable[[], Case]) -> None:
    """Cancel the case's work at each of its pauses in turn, until it ends before the pause."""
    gc.collect()
    gc.freeze()
    try:
        for late in (False, True):
            for nth in range(1, MOST_PAUSES):
                if not await _is_cancelled(case, nth, late):
                    break
            else:
                pytest.fail(f"it pauses more than {MOST_PAUSES} times")
            assert nth > 1
    finally:
        gc.unfreeze()


async def _is_cancelled(case: Callable[[], Case], nth: int, late: bool) -> bool:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        async with case() as work:
            cancelled = Cancelled(work(), nth, late=late)
            await asyncio.create_task(_awaited(cancelled))
            await eventually(lambda: len(asyncio.all_tasks()) == 1, "the end of every task")
        gc.collect()
    assert not said, (nth, late, [str(warning.message) for warning in said])
    return cancelled.was_cancelled


async def _awaited(work: Awaitable[object]) -> None:
    await work


async def _use(connection: AsyncConnection) -> None:
    await connection.execute(text("SELECT 1"))


async def _use_together(connection: AsyncConnection) -> None:
    assert await read_together(
        connection, (text("SELECT 1 AS one"), {}), (text("SELECT 2 AS two"), {})
    ) == [[{"one": 1}], [{"two": 2}]]


@asynccontextmanager
async def a_database(
    url: str, *, is_dead: bool = False, installation: str = ""
) -> AsyncIterator[Database]:
    """One connection for all: who leaves it behind is found out by the next one who needs it."""
    engine = async_engine(url, pool_size=1, installation=installation)
    database = Database(engine)
    if is_dead:
        async with engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
            raw = await connection.get_raw_connection()
            pid = raw.driver_connection.info.backend_pid  # type: ignore[union-attr] # is connected
        other = async_engine(url)
        async with other.begin() as connection:
            await connection.execute(text(f"SELECT pg_terminate_backend({pid})"))
        await other.dispose()
    yield database
    await database.read(_use)
    await database.close()


@pytest.fixture
def busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.waiting, "MAX_BUSY_TIME", 0.0)


@pytest.fixture
def connections_left(database_url: str, postgres_server: PostgresServer) -> Callable[[], bool]:
    """Whether the server still has somebody in the test's database."""
    name = database_url.rpartition("/")[2]
    count = sql.SQL(
        "DO $$ BEGIN ASSERT (SELECT count(*) FROM pg_stat_activity WHERE datname = {}) = 0; END $$"
    ).format(sql.Literal(name))

    def are_left() -> bool:
        try:
            postgres_server.execute(count)
        except psycopg.errors.AssertFailure:
            return True
        return False

    return are_left


@pytest.mark.parametrize("way", ["read", "write"])
@pytest.mark.parametrize("is_dead", [False, True])
@pytest.mark.parametrize("use", [_use, _use_together])
@pytest.mark.usefixtures("busy_loop")
async def test_cancelled_use_of_the_database_leaves_no_connection(
    database_url: str,
    connections_left: Callable[[], bool],
    use: Callable[[AsyncConnection], Work],
    way: str,
    is_dead: bool,
) -> None:
    @asynccontextmanager
    async def case() -> AsyncIterator[Callable[[], Work]]:
        async with a_database(database_url, is_dead=is_dead) as database:
            yield lambda: getattr(database, way)(use)

    await leaves_nothing(case)
    await eventually(lambda: not connections_left(), "a server without clients")


@pytest.mark.usefixtures("busy_loop")
async def test_cancelled_proof_of_whose_database_it_is_leaves_no_connection(
    database_url: str, connections_left: Callable[[], bool]
) -> None:
    ours = "11111111-1111-4111-8111-111111111111"
    engine = async_engine(database_url)
    async with engine.begin() as connection:
        values = f"(1, '{ours}', 'n', 'default', 'here', now(), now())"
        await connection.execute(text(f"INSERT INTO installation VALUES {values}"))
    await engine.dispose()

    @asynccontextmanager
    async def case() -> AsyncIterator[Callable[[], Work]]:
        async with a_database(database_url, installation=ours) as database:
            yield lambda: database.read(_use)

    await leaves_nothing(case)
    await eventually(lambda: not connections_left(), "a server without clients")


@pytest.mark.usefixtures("busy_loop")
async def test_cancelled_wait_for_a_connection_leaves_it_to_others(database_url: str) -> None:
    @asynccontextmanager
    async def case() -> AsyncIterator[Callable[[], Work]]:
        async with a_database(database_url) as database:
            taken, over = asyncio.Event(), asyncio.Event()

            async def occupy(connection: AsyncConnection) -> None:
                taken.set()
                await over.wait()

            holder = asyncio.create_task(database.write(occupy))
            await taken.wait()
            asyncio.get_running_loop().call_later(0.01, over.set)
            yield lambda: database.read(_use)
            await holder

    await leaves_nothing(case)


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_database_that_closes_during_a_use_leaves_no_connection(
    database_url: str, connections_left: Callable[[], bool], is_cancelled: bool
) -> None:
    """A worker that stops gives up what it does, and closes, at the same moment."""
    database = Database(async_engine(database_url))
    taken, over = asyncio.Event(), asyncio.Event()

    async def occupy(connection: AsyncConnection) -> None:
        await _use(connection)
        taken.set()
        await over.wait()

    gc.collect()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        use = asyncio.create_task(database.read(occupy))
        await taken.wait()
        closing = asyncio.create_task(database.close())
        await asyncio.sleep(0)
        use.cancel() if is_cancelled else over.set()
        await asyncio.wait({use, closing})
        await closing
        del use, closing
        gc.collect()

    assert [str(warning.message) for warning in said] == []
    await eventually(lambda: not connections_left(), "a server without clients")


@pytest.mark.usefixtures("busy_loop")
async def test_cancelled_probe_of_the_database_leaves_no_connection(
    database_url: str, connections_left: Callable[[], bool]
) -> None:
    @asynccontextmanager
    async def case() -> AsyncIterator[Callable[[], Work]]:
        yield lambda: probe_database(database_url)

    await leaves_nothing(case)
    await eventually(lambda: not connections_left(), "a server without clients")


@pytest.mark.usefixtures("busy_loop")
async def test_cancelled_look_at_the_embedded_database_leaves_no_connection(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    embedded = EmbeddedPostgres(tmp_path)
    embedded._password = postgres_server.password
    ports = {"postgres": postgres_server.port}

    @asynccontextmanager
    async def case() -> AsyncIterator[Callable[[], Work]]:
        yield lambda: embedded.flaw(ports, 0)

    await leaves_nothing(case)


async def test_cancelled_connect_to_nats_leaves_nobody_who_tries_on(
    nats_server: NatsServer,
) -> None:
    login = NatsLogin(nats_server.url, "agog", nats_server.password)

    async def connected() -> None:
        async with login.connected():
            pass

    for work in (connected, lambda: probe_nats(login)):

        @asynccontextmanager
        async def case(work: Callable[[], Work] = work) -> AsyncIterator[Callable[[], Work]]:
            yield work

        await leaves_nothing(case)


async def test_connect_to_a_silent_nats_is_given_up_without_a_trace() -> None:
    """A probe is over after as many seconds as the connect: it may be cancelled first."""
    tried = asyncio.Event()

    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tried.set()
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    before = asyncio.all_tasks()
    task = asyncio.create_task(open_connection(f"nats://127.0.0.1:{port}", "me", "hidden"))
    await tried.wait()
    task.cancel()
    await asyncio.wait({task})

    await eventually(lambda: asyncio.all_tasks() == before, "nobody who tries on")
    silent.close()
