"""The connection to the SDLC database: one engine, bounded waits, typed errors."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeVar

from psycopg import errors as postgres
from sqlalchemy import Dialect, Text, TypeDecorator, event
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from pipeline.errors import DependencyUnavailable, TransactionAborted, WrongInstallation
from pipeline.installation import Installation

T = TypeVar("T")

CONNECT_SECONDS = 4
"""A database that does not answer is reported within five (design, section 2, rule 1)."""

# A process that was stopped while it held a requirement's row must not stop the others for ever.
_BOUNDS = {"lock_timeout": "30s", "idle_in_transaction_session_timeout": "60s"}

_ABORTED = re.compile(r"40...|55P03")
"""SQLSTATE of deadlocks and failed serialisations, and of a lock that was not freed in time."""

# A network that swallows everything breaks the connection within ten seconds. TCP alone tries for a
# quarter of an hour, and all that time a connection of the pool is taken.
_TCP = {
    "tcp_user_timeout": 10_000,  # milliseconds: of what was sent and not acknowledged
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}

NAME = "SDLC database"
REMEDY = "Start it with `starter.py up`, or set DATABASE_URL."
NO_SCHEMA = "It has no tables yet: `starter.py up` and `worker.py` create them."


def connect_arguments() -> dict[str, object]:
    """Bounds of the connection, for every engine of the cluster."""
    bounds = " ".join(f"-c {name}={value}" for name, value in _BOUNDS.items())
    return {
        "connect_timeout": CONNECT_SECONDS,
        "application_name": "agog",
        "options": bounds,
        **_TCP,
    }


def async_engine(database_url: str, *, pool_size: int = 8, installation: str = "") -> AsyncEngine:
    """An engine for `postgresql+psycopg://…`. Nothing is connected yet.

    With the id of an installation each new connection is refused unless the database is still its
    own: behind the same address another may answer after an outage, and no row of a stranger may
    ever be read or written for one of ours.
    """
    engine = create_async_engine(
        database_url,
        pool_size=pool_size,
        max_overflow=0,  # a connection made for one transaction costs more than waiting for one
        connect_args=connect_arguments(),
        json_serializer=storable_json,
    )
    if installation:
        event.listen(engine.sync_engine, "connect", _proof(address_of(engine.url), installation))
    return engine


def _proof(address: str, installation: str) -> Callable[[DBAPIConnection, object], None]:
    def prove(connection: DBAPIConnection, _: object) -> None:
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT id FROM installation")
            found = cursor.fetchone()
            cursor.close()
            connection.rollback()
        except postgres.UndefinedTable:
            found = None
        except postgres.Error as error:
            raise DependencyUnavailable(NAME, address, f"{REMEDY} ({error})") from error
        if not found or found[0] != installation:
            raise wrong_database(address, found[0] if found else "", installation)

    return prove


def wrong_database(address: str, found: str, wanted: str) -> WrongInstallation:
    """The error for a database that another installation has, or none yet."""
    whose = f"it is {Installation(found).short}'s" if found else "it knows no installation yet"
    return WrongInstallation(
        NAME,
        f"{NAME} at {address} belongs to another installation: {whose}, and this process works for"
        f" {Installation(wanted).short}. Set DATABASE_URL to the right one, or restart this"
        " process.",
    )


def address_of(url: URL) -> str:
    """Where the database is, without user and password."""
    return f"{url.host or 'localhost'}:{url.port or 5432}/{url.database or ''}"


@contextmanager
def reaching(address: str) -> Iterator[None]:
    """Turn what a database that is down, full or empty says into DependencyUnavailable.

    A deadlock, a lock that was not freed in time: TransactionAborted. Nothing was written then.
    """
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if isinstance(error.orig, postgres.Error) and _ABORTED.match(error.orig.sqlstate or ""):
            raise TransactionAborted(NAME, _said(error)) from error
        raise _unavailable(address, error) from error
    except PoolTimeout as error:
        raise DependencyUnavailable(NAME, address, "Every connection is busy.") from error
    except ProgrammingError as error:
        if isinstance(error.orig, postgres.UndefinedTable | postgres.UndefinedColumn):
            raise DependencyUnavailable(NAME, address, NO_SCHEMA) from error
        raise


def _unavailable(address: str, error: DBAPIError) -> DependencyUnavailable:
    return DependencyUnavailable(NAME, address, f"{REMEDY} ({_said(error)})")


def _said(error: DBAPIError) -> str:
    return next(iter(str(error.orig).strip().splitlines()), "no reason")


class Database:
    """Transactions and reads on one engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        """Take the engine; it is connected on first use."""
        self._engine = engine
        self.address = address_of(engine.url)

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do the work in one transaction. The work must be idempotent: it may be done twice."""
        return await self._once_more(work, self._engine.begin)

    async def read(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Do a read that needs no transaction of its own."""
        return await self._once_more(work, self._autocommit)

    @asynccontextmanager
    async def _autocommit(self) -> AsyncIterator[AsyncConnection]:
        """A connection without transactions.

        Its mode is set when this block owns the connection. An engine with that mode sets it while
        nobody does: a read that was cancelled then left its connection open to nobody.
        """
        async with self._engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    async def _once_more(
        self,
        work: Callable[[AsyncConnection], Awaitable[T]],
        connect: Callable[[], AbstractAsyncContextManager[AsyncConnection]],
    ) -> T:
        """A pooled connection may have died idle; finding out this way costs no ping per call."""
        with reaching(self.address):
            try:
                async with connect() as connection:
                    return await work(connection)
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
            async with connect() as connection:
                return await work(connection)

    async def close(self) -> None:
        """Close idle connections now, and each busy one as soon as it is returned.

        Without the event a busy connection would return to a pool that no longer has an owner.
        """
        event.listen(self._engine.sync_engine.pool, "checkin", _end_connection)
        await self._engine.dispose()


def _end_connection(_: DBAPIConnection | None, record: ConnectionPoolEntry) -> None:
    record.invalidate()


def open_database(database_url: str, installation: str = "") -> Database:
    """The database of that SQLAlchemy URL; that installation's alone, if it is given."""
    return Database(async_engine(database_url, installation=installation))


# --- values as PostgreSQL can hold them: output of agents may contain what it cannot --------------

_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a whole surrogate pair
    r"|\\u[0-9a-fA-F]{4}|\\."
)
_UNSTORABLE_ESCAPE = re.compile(r"\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})")
_REPLACEMENT = "\ufffd"


def storable(text: str) -> str:
    """The text with null characters and half surrogate pairs replaced by U+FFFD."""
    return _UNSTORABLE.sub(_REPLACEMENT, str(text))


def storable_json(value: object) -> str:
    """The value as JSON text that JSONB takes; a serializer for the engine.

    Raises: ValueError for a number that is not finite.
    """
    return _ESCAPE.sub(_replace, json.dumps(value, allow_nan=False))


def _replace(match: re.Match[str]) -> str:
    escape = match.group()
    return _REPLACEMENT if _UNSTORABLE_ESCAPE.fullmatch(escape) else escape


class StorableText(TypeDecorator[str]):
    """Text that is made storable on its way in."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Called by SQLAlchemy for every value that is written."""
        return None if value is None else storable(value)
