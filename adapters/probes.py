"""Whether a dependency can be used: a fresh connection and a real request, bounded in time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import psycopg
from nats.aio.client import Client
from sqlalchemy.engine import URL, make_url

from adapters import nats_connection
from adapters.bounded import cleaned, within
from adapters.nats_connection import open_connection, unavailable
from adapters.sdlc import database
from pipeline.errors import DependencyUnavailable

PROBE_SECONDS = 4.0
"""A dependency that does not answer in that time is down, however it hangs."""


@dataclass(frozen=True)
class NatsLogin:
    """How NATS is signed in to."""

    url: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        """Where it is, without user and password."""
        return nats_connection.address_of(self.url)

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Client]:
        """A connection of the caller's own, closed at the end. Raises: DependencyUnavailable."""
        client = await open_connection(self.url, self.user, self.password)
        try:
            yield client
        finally:
            await cleaned(client.close())


async def probe_nats(login: NatsLogin) -> None:
    """Connect and ask for JetStream. Raises: DependencyUnavailable."""
    with unavailable(login.url):
        await within(PROBE_SECONDS, _ask_nats(login))


async def _ask_nats(login: NatsLogin) -> None:
    async with login.connected() as client:
        with unavailable(login.url):
            await client.jetstream(timeout=PROBE_SECONDS).account_info()


async def probe_database(database_url: str) -> None:
    """Connect and select something. Raises: DependencyUnavailable."""
    url = make_url(database_url)
    try:
        await within(PROBE_SECONDS, _ask_database(url))
    except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError) as error:
        remedy = f"{database.REMEDY} ({str(error).strip()})"
        raise DependencyUnavailable(database.NAME, database.address_of(url), remedy) from error


async def _ask_database(url: URL) -> None:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await psycopg.AsyncConnection.connect(
        plain, connect_timeout=int(PROBE_SECONDS), application_name="agog probe", autocommit=True
    )
    try:
        await connection.execute("SELECT 1")
    finally:
        await connection.close()
