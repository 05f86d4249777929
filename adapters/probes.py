"""Whether a dependency can be used: a fresh connection and a real request, bounded in time."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from nats.aio.client import Client
from sqlalchemy.engine import URL, make_url

from adapters import nats_connection
from adapters.nats_connection import open_connection, unavailable
from adapters.sdlc import database
from adapters.waiting import cleaned, within
from pipeline.errors import DependencyUnavailable, NoRoom
from pipeline.model import disk_of

PROBE_SECONDS = 4.0
"""A dependency that does not answer in that time is down, however it hangs."""


MIB = 1024**2

_PROBE = b"\0" * 64 * 1024


def free_bytes(home: Path) -> int:
    """Bytes that this user may still write on the disk of the state directory."""
    return shutil.disk_usage(_existing(home)).free


def disk_problem(home: Path, least: int, free: Callable[[Path], int] = free_bytes) -> str:
    """Why the disk of the state directory must not be written to; empty if it may be.

    Free bytes say nothing of a quota, of used up inodes, or of a disk that became read-only: so
    something is really written. May block. Raises: OSError if the disk cannot be asked.
    """
    left = free(home)
    if left < least:
        return f"{left // MIB} MiB are free at {home}, less than {least // MIB} MiB."
    try:
        with tempfile.TemporaryFile(dir=_existing(home), prefix=".probe-", buffering=0) as file:
            left_over = len(_PROBE)
            while left_over:  # where there is room for a part, a part is written
                left_over -= file.write(_PROBE[:left_over])
    except OSError as error:
        return f"{home} cannot be written to: {error.strerror}."
    return ""


async def probe_disk(host: str, home: Path, least: int) -> None:
    """Write something. Raises: NoRoom."""
    try:
        problem = await asyncio.to_thread(disk_problem, home, least)
    except OSError as error:
        problem = f"{home} cannot be looked at: {error.strerror}."
    if problem:
        raise NoRoom(disk_of(host), problem)


def _existing(home: Path) -> Path:
    return next(path for path in (home, *home.parents) if path.exists())


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
