"""Whether this worker has what every boundary needs, watched so that nobody has to wait."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from sqlalchemy import make_url

from adapters import nats_connection
from adapters.nats_events import NatsEventPublisher
from adapters.probes import probe_database, probe_disk
from adapters.sdlc import database
from adapters.waiting import within
from pipeline.errors import DependencyUnavailable, NoRoom
from pipeline.model import disk_of, place_of

log = logging.getLogger(__name__)

ASK_SECONDS = 4.0
"""Without an answer by then a dependency is down. With the pause: seen in 6 s, ten are promised."""

PAUSE_SECONDS = 2.0
PAUSE_WHILE_DOWN_SECONDS = 0.5
"""What is back is to be seen within five seconds, and a refusal costs next to nothing."""


@dataclass(frozen=True)
class Dependency:
    """What is watched: `ask` returns once it has answered a real request.

    `ask` may raise DependencyUnavailable; taking longer than `ASK_SECONDS` is no answer either.
    """

    name: str
    address: str
    remedy: str
    ask: Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Standing:
    """How a dependency stands since when; `problem` is empty while it is well."""

    name: str
    address: str
    since: datetime
    problem: str = ""
    latency_seconds: float | None = None

    @property
    def is_well(self) -> bool:
        """Whether it answered the last time."""
        return not self.problem


def disk(host: str, home: Path, least_bytes: int) -> Dependency:
    """The disk of the state directory, by free bytes and by writing to it each time."""
    return Dependency(
        disk_of(host), str(home), "Make room.", lambda: probe_disk(host, home, least_bytes)
    )


def nats_and_database(
    publisher: NatsEventPublisher, nats_url: str, database_url: str
) -> tuple[Dependency, Dependency]:
    """NATS by the worker's own connection, the database by a fresh one each time."""
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
"""Says that a dependency is away. Raises: DependencyUnavailable if that cannot be said now."""


async def _nobody(_: str) -> None:
    """Nobody is told."""


class WatchedDependencies:
    """The port `Readiness`.

    In the beginning all counts as well: the worker has just reached it, or it would not be here.
    """

    def __init__(self, dependencies: Sequence[Dependency], tell: Tell = _nobody) -> None:
        """Take what is to be watched; nothing is asked before `watch`.

        `tell` is told of each outage, by the dependency's name.
        """
        self._dependencies = tuple(dependencies)
        self._tell = tell
        now = datetime.now(UTC)
        self._standings = [Standing(each.name, each.address, now) for each in dependencies]

    @property
    def standings(self) -> tuple[Standing, ...]:
        """How each of them stands."""
        return tuple(self._standings)

    @property
    def is_ready(self) -> bool:
        """Whether all of them answer."""
        return all(standing.is_well for standing in self._standings)

    def check(self) -> None:
        """Let pass while all of them answer.

        Raises: DependencyUnavailable for the first that does not.
        """
        for dependency, standing in zip(self._dependencies, self._standings, strict=True):
            if standing.is_well:
                continue
            since = f"(since {standing.since:%H:%M:%S} UTC)"
            if place_of(dependency.name):
                raise NoRoom(dependency.name, f"{standing.problem} {since}")
            remedy = f"{dependency.remedy} {since}"
            raise DependencyUnavailable(dependency.name, dependency.address, remedy)

    async def watch(self) -> None:
        """Ask each of them for ever, side by side: one that hangs delays none of the others."""
        await asyncio.gather(*map(self._watch, range(len(self._dependencies))))

    async def _watch(self, index: int) -> None:
        is_told = False
        while True:
            standing = await _ask(self._dependencies[index], self._standings[index])
            self._standings[index] = standing
            # Who waits on a server that hangs finds nothing out, and calls nobody.
            is_told = not standing.is_well and (is_told or await self._told(standing.name))
            await asyncio.sleep(PAUSE_SECONDS if standing.is_well else PAUSE_WHILE_DOWN_SECONDS)

    async def _told(self, name: str) -> bool:
        try:
            await within(ASK_SECONDS, self._say(name))
        except (DependencyUnavailable, TimeoutError) as error:
            log.warning("Nobody was told that %s is away: %s", name, error)
            return False
        return True

    async def _say(self, name: str) -> None:
        await self._tell(name)


async def _ask(dependency: Dependency, before: Standing) -> Standing:
    begun = monotonic()
    try:
        await within(ASK_SECONDS, _answer(dependency))
    except NoRoom as error:
        return _down(before, error.problem)
    except (DependencyUnavailable, TimeoutError) as error:
        return _down(before, str(error))
    return _well(before, monotonic() - begun)


async def _answer(dependency: Dependency) -> None:
    await dependency.ask()


def _down(before: Standing, problem: str) -> Standing:
    if not before.is_well:
        return replace(before, problem=problem)
    log.error("%s is down: nothing starts until it is back. %s", before.name, problem)
    return Standing(before.name, before.address, datetime.now(UTC), problem)


def _well(before: Standing, latency_seconds: float) -> Standing:
    if before.is_well:
        return replace(before, latency_seconds=latency_seconds)
    now = datetime.now(UTC)
    lasted = (now - before.since).total_seconds()
    log.warning("%s at %s is back after %.1f s", before.name, before.address, lasted)
    return Standing(before.name, before.address, now, latency_seconds=latency_seconds)
