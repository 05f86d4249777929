"""Whether the dependencies of a worker can be used: NATS, the database, and the disk.

A probe is a fresh connection and a real request, bounded in time. A worker watches all of them
continuously, so that a checkpoint finds the answer ready.
"""

import asyncio
import logging
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import psycopg
from sqlalchemy.engine import URL, make_url

from adapters.nats import connection as nats_connection
from adapters.nats.connection import NatsLogin, unavailable
from adapters.nats.events import NatsEventPublisher
from adapters.sdlc import database
from adapters.waiting import within
from pipeline.errors import DependencyUnavailable, NoRoom
from pipeline.model import disk_of, place_of

log = logging.getLogger(__name__)

PROBE_SECONDS = 4.0
"""A dependency that does not answer in that time is down, however it hangs."""

MIB = 1024**2

_PROBE = b"\0" * 64 * 1024

ASK_SECONDS = 4.0
"""A watched dependency without an answer by then is down. With the pause an outage is seen within
6 s; ten are promised."""

PAUSE_SECONDS = 2.0
PAUSE_WHILE_DOWN_SECONDS = 0.5
"""A recovery must be seen within five seconds, and a refused connection costs next to nothing."""


# --- probes ---------------------------------------------------------------------------------------


def free_bytes(home: Path) -> int:
    """Bytes that this user can still write on the disk of the state directory."""
    return shutil.disk_usage(_existing(home)).free


def disk_problem(home: Path, least: int, free: Callable[[Path], int] = free_bytes) -> str:
    """Why the disk of the state directory cannot be used; empty if it can.

    Free bytes tell nothing about a quota, exhausted inodes or a read-only disk, so this also writes
    a file. May block. Raises: OSError if the disk cannot be asked.
    """
    left = free(home)
    if left < least:
        return f"{left // MIB} MiB are free at {home}, less than {least // MIB} MiB."
    try:
        with tempfile.TemporaryFile(dir=_existing(home), prefix=".probe-", buffering=0) as file:
            left_over = len(_PROBE)
            while left_over:  # if there is room for a part, only that part is written
                left_over -= file.write(_PROBE[:left_over])
    except OSError as error:
        return f"{home} cannot be written to: {error.strerror}."
    return ""


async def probe_disk(host: str, home: Path, least: int) -> None:
    """Check free bytes and write a file. Raises: NoRoom."""
    try:
        problem = await asyncio.to_thread(disk_problem, home, least)
    except OSError as error:
        problem = f"{home} cannot be looked at: {error.strerror}."
    if problem:
        raise NoRoom(disk_of(host), problem)


def _existing(home: Path) -> Path:
    return next(path for path in (home, *home.parents) if path.exists())


async def probe_nats(login: NatsLogin) -> None:
    """Connect and ask for JetStream. Raises: DependencyUnavailable."""
    with unavailable(login.url):
        await within(PROBE_SECONDS, _ask_nats(login))


async def _ask_nats(login: NatsLogin) -> None:
    async with login.connected() as client:
        with unavailable(login.url):
            await client.jetstream(timeout=PROBE_SECONDS).account_info()


async def probe_database(database_url: str) -> None:
    """Connect and run a query. Raises: DependencyUnavailable."""
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


# --- watching -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Dependency:
    """What is watched: `ask` returns once the dependency has answered a real request.

    `ask` may raise DependencyUnavailable; taking longer than `ASK_SECONDS` also counts as down.
    """

    name: str
    address: str
    remedy: str
    ask: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class DependencyStatus:
    """The status of a dependency and since when; `problem` is empty while it is up."""

    name: str
    address: str
    since: datetime
    problem: str = ""
    latency_seconds: float | None = None

    @property
    def is_well(self) -> bool:
        """Whether it answered the last request."""
        return not self.problem


def disk(host: str, home: Path, least_bytes: int) -> Dependency:
    """The disk of the state directory: its free bytes, and a write each time."""
    return Dependency(
        disk_of(host), str(home), "Make room.", lambda: probe_disk(host, home, least_bytes)
    )


def nats_and_database(
    publisher: NatsEventPublisher, nats_url: str, database_url: str
) -> tuple[Dependency, Dependency]:
    """NATS over the worker's own connection, the database over a fresh one each time."""
    return (
        Dependency(
            nats_connection.NAME,
            nats_connection.address_of(nats_url),
            nats_connection.REMEDY,
            publisher.check,
        ),
        Dependency(
            database.NAME,
            database.address_of(make_url(database_url)),
            database.REMEDY,
            lambda: probe_database(database_url),
        ),
    )


Tell = Callable[[str], Awaitable[None]]
"""Reports that a dependency is down. Raises: DependencyUnavailable if it cannot be reported now."""


async def _nobody(_: str) -> None:
    """Report nothing."""


class WatchedDependencies:
    """Implements `pipeline.ports.Readiness`.

    At first every dependency counts as up: the worker has just reached it during its start.
    """

    def __init__(self, dependencies: Sequence[Dependency], tell: Tell = _nobody) -> None:
        """Ask nothing before `watch`; `tell` gets the dependency's name once per outage."""
        self._dependencies = tuple(dependencies)
        self._tell = tell
        now = datetime.now(UTC)
        self._statuses = [DependencyStatus(each.name, each.address, now) for each in dependencies]

    @property
    def statuses(self) -> tuple[DependencyStatus, ...]:
        """The status of each dependency."""
        return tuple(self._statuses)

    @property
    def is_ready(self) -> bool:
        """Whether all of them answer."""
        return all(status.is_well for status in self._statuses)

    def check(self) -> None:
        """Check that all of them answer.

        Raises: DependencyUnavailable for the first that does not.
        """
        for dependency, status in zip(self._dependencies, self._statuses, strict=True):
            if status.is_well:
                continue
            since = f"(since {status.since:%H:%M:%S} UTC)"
            if place_of(dependency.name):
                raise NoRoom(dependency.name, f"{status.problem} {since}")
            remedy = f"{dependency.remedy} {since}"
            raise DependencyUnavailable(dependency.name, dependency.address, remedy)

    async def watch(self) -> None:
        """Ask each of them forever, concurrently: one that hangs delays no other."""
        await asyncio.gather(*map(self._watch, range(len(self._dependencies))))

    async def _watch(self, index: int) -> None:
        is_told = False
        while True:
            status = await _ask(self._dependencies[index], self._statuses[index])
            self._statuses[index] = status
            # Reported at once: a writer that is blocked on a hung server would never notice.
            is_told = not status.is_well and (is_told or await self._told(status.name))
            await asyncio.sleep(PAUSE_SECONDS if status.is_well else PAUSE_WHILE_DOWN_SECONDS)

    async def _told(self, name: str) -> bool:
        try:
            await within(ASK_SECONDS, _awaited(self._tell(name)))
        except (DependencyUnavailable, TimeoutError) as error:
            log.warning("Nobody was told that %s is down: %s", name, error)
            return False
        return True


async def _ask(dependency: Dependency, before: DependencyStatus) -> DependencyStatus:
    begun = monotonic()
    try:
        await within(ASK_SECONDS, _awaited(dependency.ask()))
    except NoRoom as error:
        return _down(before, error.problem)
    except (DependencyUnavailable, TimeoutError) as error:
        return _down(before, str(error))
    return _well(before, monotonic() - begun)


async def _awaited(work: Awaitable[None]) -> None:
    await work


def _down(before: DependencyStatus, problem: str) -> DependencyStatus:
    if not before.is_well:
        return replace(before, problem=problem)
    log.error("%s is down: nothing starts until it is back. %s", before.name, problem)
    return DependencyStatus(before.name, before.address, datetime.now(UTC), problem)


def _well(before: DependencyStatus, latency_seconds: float) -> DependencyStatus:
    if before.is_well:
        return replace(before, latency_seconds=latency_seconds)
    now = datetime.now(UTC)
    lasted = (now - before.since).total_seconds()
    log.warning("%s at %s is back after %.1f s", before.name, before.address, lasted)
    return DependencyStatus(before.name, before.address, now, latency_seconds=latency_seconds)
