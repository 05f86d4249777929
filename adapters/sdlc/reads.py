"""Several statements of one transaction in one trip to the database.

A trip costs more than most of our reads. psycopg's pipeline sends statements without waiting for
the answers before them. To the server they are what they are when each is sent alone: in that
order, each with a snapshot of its own, so a read after a lock sees what its holder has committed.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import Executable
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import Compiled

Read = tuple[Executable, Mapping[str, object]]
"""A statement and its parameters."""

Rows = Sequence[Mapping[str, Any]]

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call] # as SQLAlchemy ships it


async def read_together(connection: AsyncConnection, *reads: Read) -> list[Rows]:
    """The rows of each statement; `in_` with a list is not for them, `any_` of an array is.

    Raises: what `AsyncConnection.execute` raises; the statements after the one that fails do not
    run.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    try:
        async with driver.pipeline():
            cursors = [driver.cursor(row_factory=dict_row) for _ in reads]
            for cursor, (statement, values) in zip(cursors, reads, strict=True):
                compiled = _compiled(statement)
                await cursor.execute(str(compiled).encode(), compiled.construct_params(values))
        return [await cursor.fetchall() for cursor in cursors]
    except psycopg.Error as error:
        if driver.closed:
            await connection.invalidate(error)
        raise _as_sqlalchemy_says_it(error, is_lost=driver.closed) from error
    except asyncio.CancelledError as error:
        await connection.invalidate(error)  # answers may still be on their way
        raise


@lru_cache(512)
def _compiled(statement: Executable) -> Compiled:
    assert isinstance(statement, ClauseElement)
    return statement.compile(dialect=_DIALECT)


def _as_sqlalchemy_says_it(error: psycopg.Error, *, is_lost: bool) -> Exception:
    return DBAPIError.instance(
        None, None, error, psycopg.Error, connection_invalidated=is_lost, dialect=_DIALECT
    )
