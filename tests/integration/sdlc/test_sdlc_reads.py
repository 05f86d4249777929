"""Statements that travel together mean what they mean alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import Text, bindparam, func, select, text
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.database import Database, async_engine
from adapters.sdlc.transaction import Read, read_together
from tests.eventually import eventually_async

_LOCK = select(func.pg_advisory_xact_lock(7))
_ECHO = select(bindparam("said", type_=Text).label("said"))
_TABLE = "CREATE TABLE tallies (count integer)"
_COUNT: Read = (text("SELECT count FROM tallies"), {})


@asynccontextmanager
async def a_database(url: str) -> AsyncIterator[Database]:
    database = Database(async_engine(url))
    try:
        yield database
    finally:
        await database.close()


async def test_a_read_after_a_lock_sees_what_its_holder_has_committed(database_url: str) -> None:
    async with a_database(database_url) as database:
        await database.write(lambda c: c.execute(text(_TABLE)))
        followed: list[asyncio.Task[list[object]]] = []

        async def read(connection: AsyncConnection) -> list[object]:
            _, (counters,) = await read_together(connection, (_LOCK, {}), _COUNT)
            return list(counters.values())

        async def hold(connection: AsyncConnection) -> None:
            await connection.execute(_LOCK)
            followed.append(asyncio.create_task(database.write(read)))
            await eventually_async(lambda: _is_waited_for(connection), "a wait for the lock")
            await connection.execute(text("INSERT INTO tallies VALUES (42)"))

        await database.write(hold)

        assert await followed[0] == [42]


async def _is_waited_for(connection: AsyncConnection) -> bool:
    query = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    return bool((await connection.execute(query)).scalar_one())


async def test_the_statements_after_one_that_fails_do_not_run(database_url: str) -> None:
    insert = text("INSERT INTO tallies VALUES (1)")
    async with a_database(database_url) as database:
        await database.write(lambda c: c.execute(text(_TABLE)))

        async def fail(connection: AsyncConnection) -> None:
            await read_together(connection, (text("SELECT 1 / 0"), {}), (insert, {}))

        with pytest.raises(DataError, match="division by zero"):
            await database.write(fail)

        assert await database.read(lambda c: read_together(c, _COUNT)) == [[]]


async def test_a_lock_that_is_not_had_in_time_is_an_error_of_the_database(
    database_url: str,
) -> None:
    short: Read = (text("SET LOCAL lock_timeout = '50ms'"), {})
    async with a_database(database_url) as database:

        async def wait(connection: AsyncConnection) -> None:
            with pytest.raises(OperationalError, match="lock timeout"):
                await read_together(connection, short, (_LOCK, {}))

        async def hold(connection: AsyncConnection) -> None:
            await connection.execute(_LOCK)
            await database.write(wait)

        await database.write(hold)


async def test_values_arrive_as_they_were_given(database_url: str) -> None:
    async with a_database(database_url) as database:
        said = "100 % of %(said)s; \\ ' \" 🎉"
        ((row,),) = await database.read(lambda c: read_together(c, (_ECHO, {"said": said})))
        assert {"said": said} == row
