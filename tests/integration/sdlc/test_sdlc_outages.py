import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.database import async_engine, open_database
from adapters.sdlc.migrate import pending, upgrade
from adapters.sdlc.reader import create_reader
from adapters.sdlc.store import create_store
from pipeline.errors import DependencyUnavailable, TransactionAborted
from tests.eventually import Stopwatch
from tests.fixtures_sdlc import TEMPLATE, PostgresServer
from tests.ports import own_port
from tests.sdlc_factory import CRITIQUE, RESEARCH, Requirement, an_order


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    server = PostgresServer(tmp_path, own_port(), "secret")
    server.create()
    server.start()
    yield server
    server.stop()


async def test_absent_database_is_named_without_its_password() -> None:
    port = own_port()
    store = create_store(f"postgresql+psycopg://agog:hidden@127.0.0.1:{port}/agog")

    with pytest.raises(DependencyUnavailable) as refusal:
        await store.check()

    said = str(refusal.value)
    assert f"SDLC database cannot be reached at 127.0.0.1:{port}/agog. Start it with" in said
    assert "hidden" not in said


async def test_database_that_never_answers_is_given_up_within_five_seconds() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        store = create_store(f"postgresql+psycopg://agog@127.0.0.1:{silent.getsockname()[1]}/agog")

        with Stopwatch() as watch, pytest.raises(DependencyUnavailable):
            await store.check()

        assert watch.seconds < 5


def test_migrations_name_an_absent_database() -> None:
    url = f"postgresql+psycopg://agog@127.0.0.1:{own_port()}/agog"

    for operation in (pending, upgrade):
        with pytest.raises(DependencyUnavailable, match="SDLC database"):
            operation(url)


async def test_database_without_tables_says_who_makes_them(own_server: PostgresServer) -> None:
    url = own_server.url("postgres")
    store, reader = create_store(url), create_reader(url)

    with pytest.raises(DependencyUnavailable, match=r"no tables yet: `starter\.py up`"):
        await store.check()
    with pytest.raises(DependencyUnavailable, match="no tables yet"):
        await reader.requirements()

    await store.close()
    await reader.close()


async def test_restarted_database_is_used_again_without_an_error(
    own_server: PostgresServer,
) -> None:
    url = own_server.url("postgres")
    upgrade(url)
    store = create_store(url)
    requirement = await Requirement(store).begun()
    await requirement.run(RESEARCH)

    own_server.stop()
    with pytest.raises(DependencyUnavailable):
        await requirement.open_stage(CRITIQUE)
    own_server.start()
    await requirement.run(CRITIQUE)
    own_server.stop()
    own_server.start()
    assert await store.description("REQ-1") == "A description"

    await store.close()


async def test_connection_into_nothing_is_given_up_in_seconds(database_url: str) -> None:
    engine = async_engine(database_url)
    async with engine.connect() as connection:
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        with socket.socket(fileno=os.dup(driver.fileno())) as tcp:
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 10_000
            assert tcp.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 4

    await engine.dispose()


async def test_wrong_password_is_refused(postgres_server: PostgresServer) -> None:
    url = postgres_server.url(TEMPLATE).replace(postgres_server.password, "wrong")
    store = create_store(url)

    with pytest.raises(DependencyUnavailable, match="password authentication failed"):
        await store.accept(an_order(), "")

    await store.close()


async def test_deadlock_is_told_as_what_it_is_and_the_loser_may_try_again(
    database_url: str,
) -> None:
    """The database is there: nobody has to wait for it, and nothing was written."""
    database = open_database(database_url)
    both_hold_one = asyncio.Barrier(2)

    async def lock(first: int, second: int) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({first})"))
            await both_hold_one.wait()
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({second})"))

        await database.write(work)

    ends = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    await database.close()

    (told,) = [end for end in ends if end]
    assert isinstance(told, TransactionAborted)
    assert "deadlock detected" in str(told)
    assert "cannot be reached" not in str(told)
