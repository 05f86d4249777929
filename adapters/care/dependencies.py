"""NATS and the SDLC database: whether they answer and are what they must be, and their restart."""

import asyncio
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from nats.aio.client import Client
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from adapters.care.care import LOOK_SECONDS, Care
from adapters.care.records import RecordCare
from adapters.local_stack.nats_server import NatsServer
from adapters.local_stack.postgres_server import PostgresServer
from adapters.local_stack.restarting import ServerRestarts
from adapters.local_stack.server import Server
from adapters.local_stack.state import is_embedded
from adapters.nats.connection import NAME as NATS
from adapters.nats.connection import NatsLogin, unavailable
from adapters.nats.events import ensure_stream, find_flaw
from adapters.readiness import PROBE_SECONDS, probe_database, probe_nats
from adapters.sdlc.database import NAME as DATABASE
from adapters.sdlc.database import address_of
from adapters.sdlc.migrate import UNKNOWN_REVISION, Schema, schema, upgrade
from adapters.waiting import within
from pipeline.errors import DependencyUnavailable
from pipeline.events import STREAMS, Stream
from pipeline.model import DEPENDENCIES, Alert, AlertKind

log = logging.getLogger(__name__)

_ANSWER_SECONDS = 0.9 * LOOK_SECONDS
"""A little less than a whole look may take: who says nothing is named with its address."""

COMMAND_SECONDS = 60.0
"""Then the command and all that it has started are ended."""

_OUTPUT_BYTES = 4_000


@dataclass(frozen=True)
class Restart:
    """How a dependency is restarted: in the embedded stack, by a command, or by a human.

    `make_server` describes it as the embedded `server`; `setting` names the user's command, whose
    `argv` is empty if none is set. `secrets` never reach the log, whatever the command prints.
    """

    dependency: str
    address: str
    url: str = field(repr=False)
    home: Path
    server: str
    make_server: Callable[[], Server]
    setting: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    async def run(self) -> str:
        """Restart it once; what was done.

        Raises: DependencyUnavailable, with the setting that would allow it if nothing does.
        """
        if is_embedded(self.home, self.server, self.url):
            return await ServerRestarts(self.home).restart(self.make_server(), self.url)
        if not self.argv:
            remedy = f"Start it, or set {self.setting} to a command that restarts it."
            raise DependencyUnavailable(self.dependency, self.address, remedy)
        try:
            code = await self._command()
        except OSError as error:  # TimeoutError is one
            said = error.strerror or f"it was ended after {COMMAND_SECONDS:.0f} s"
            raise self._failure(said) from error
        if code:
            raise self._failure(f"exit code {code}")
        return f"{self.dependency} was restarted by {self.setting}."

    async def _command(self) -> int:
        """Run it without a shell, log what it prints; its exit code."""
        # A file and no pipe: what the command leaves running may keep its output open.
        with tempfile.TemporaryFile() as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *self.argv,
                    env=dict(self.environment),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output.fileno(),
                    stderr=output.fileno(),
                    start_new_session=True,
                )
                try:
                    return await asyncio.wait_for(process.wait(), COMMAND_SECONDS)
                finally:
                    if process.returncode is None:
                        with suppress(ProcessLookupError):
                            os.killpg(process.pid, signal.SIGKILL)
                        await process.wait()
            finally:
                output.seek(0)
                said = output.read().decode(errors="replace").strip()
                for secret in self.secrets:
                    said = said.replace(secret, "***")
                if said:
                    log.info("%s says: %s", self.setting, said[-_OUTPUT_BYTES:])

    def _failure(self, reason: str) -> DependencyUnavailable:
        remedy = f"The command of {self.setting} has failed: {reason}."
        return DependencyUnavailable(self.dependency, self.address, remedy)


_NATS, _DATABASE = DEPENDENCIES[NATS], DEPENDENCIES[DATABASE]


class NatsCare:
    """Looks at NATS with connections of its own: those of the worker may be what is broken."""

    kinds = frozenset({AlertKind.NATS_DOWN, AlertKind.STREAMS_AMISS})
    prefix = ""
    blind = Alert(AlertKind.NATS_DOWN, _NATS)

    def __init__(self, login: NatsLogin, restart: Restart) -> None:
        self._login = login
        self._restart = restart

    async def look(self) -> Sequence[Alert]:
        """NATS_DOWN, or one STREAMS_AMISS for each stream that has a flaw."""
        try:
            with unavailable(self._login.url):
                flaws = await within(_ANSWER_SECONDS, self._flaws())
        except DependencyUnavailable as error:
            return (Alert(AlertKind.NATS_DOWN, _NATS, detail=str(error)),)
        return tuple(
            Alert(AlertKind.STREAMS_AMISS, _NATS, stream.name, f"{stream.name} {flaw}.")
            for stream, flaw in zip(STREAMS, flaws, strict=True)
            if flaw
        )

    async def act(self, alert: Alert) -> str:
        """Restart the server, or repair the stream.

        Raises: DependencyUnavailable, NotRepairable.
        """
        if alert.kind is AlertKind.STREAMS_AMISS:
            return await self._repair(alert.subject)
        try:
            await probe_nats(self._login)
        except DependencyUnavailable:
            return await self._restart.run()
        return "NATS answers again."

    async def _flaws(self) -> list[str]:
        async with self._login.connected() as client:
            jetstream = client.jetstream(timeout=PROBE_SECONDS)
            await jetstream.account_info()
            return await asyncio.gather(*(find_flaw(jetstream, stream) for stream in STREAMS))

    async def _repair(self, name: str) -> str:
        (stream,) = (stream for stream in STREAMS if stream.name == name)
        with unavailable(self._login.url):
            async with self._login.connected() as client:
                return await _repaired(client, stream)


async def _repaired(client: Client, stream: Stream) -> str:
    jetstream = client.jetstream(timeout=PROBE_SECONDS)
    flaw = await find_flaw(jetstream, stream)
    if not flaw:
        return f"{stream.name} is as it must be."
    await ensure_stream(jetstream, stream)
    return f"{stream.name} {flaw}: brought to what it must be."


_SCHEMA = {
    Schema.BEHIND: (AlertKind.MIGRATIONS_BEHIND, _DATABASE, "Migrations are missing."),
    Schema.UNKNOWN: (AlertKind.PROGRAM_BEHIND, "program", UNKNOWN_REVISION),
}


class DatabaseCare:
    """Looks at the database with connections of its own: the worker's may all be busy."""

    kinds = frozenset(
        {AlertKind.DATABASE_DOWN, AlertKind.MIGRATIONS_BEHIND, AlertKind.PROGRAM_BEHIND}
    )
    prefix = ""
    blind = Alert(AlertKind.DATABASE_DOWN, _DATABASE)

    def __init__(self, database_url: str, restart: Restart) -> None:
        self._url = database_url
        self._restart = restart

    async def look(self) -> Sequence[Alert]:
        """What is wrong with the database, one thing at a time."""
        try:
            found = await within(_ANSWER_SECONDS, self._schema())
        except (DependencyUnavailable, TimeoutError) as error:
            return (Alert(AlertKind.DATABASE_DOWN, _DATABASE, detail=str(error)),)
        except DBAPIError as error:  # it answers, and does not let us in
            return (Alert(AlertKind.DATABASE_DOWN, _DATABASE, detail=str(error.orig)),)
        if found is Schema.CURRENT:
            return ()
        kind, component, detail = _SCHEMA[found]
        return (Alert(kind, component, detail=detail),)

    async def act(self, alert: Alert) -> str:
        """Restart the server, or run the migrations.

        Raises: DependencyUnavailable, NotRepairable.
        """
        if alert.kind is not AlertKind.DATABASE_DOWN:
            await asyncio.to_thread(upgrade, self._url)
            return "The migrations that were missing have been run."
        try:
            await probe_database(self._url)
        except DependencyUnavailable:
            return await self._restart.run()
        return "The SDLC database answers again."

    async def _schema(self) -> Schema:
        await probe_database(self._url)
        return await asyncio.to_thread(schema, self._url)


RESTART_NATS, RESTART_DATABASE = "AGOG_RESTART_NATS", "AGOG_RESTART_DATABASE"


@dataclass(frozen=True)
class Dependencies:
    """Where the dependencies are, and how each may be restarted that is not embedded.

    `environment` is that of the commands, which are empty where none is configured.
    """

    home: Path
    nats: NatsLogin
    database_url: str = field(repr=False)
    restart_nats: tuple[str, ...] = ()
    restart_database: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)


def cluster_care(to: Dependencies, records: RecordCare) -> Care:
    """The care of the cluster: these dependencies, and the records."""
    database_url = make_url(to.database_url)
    secrets = tuple(map(str, filter(None, (to.nats.password, database_url.password))))
    nats = Restart(
        NATS,
        to.nats.address,
        to.nats.url,
        to.home,
        NatsServer.name,
        lambda: NatsServer(to.home, to.nats.user, to.nats.password),
        RESTART_NATS,
        to.restart_nats,
        to.environment,
        secrets,
    )
    database = Restart(
        DATABASE,
        address_of(database_url),
        to.database_url,
        to.home,
        PostgresServer.name,
        lambda: PostgresServer(to.home),
        RESTART_DATABASE,
        to.restart_database,
        to.environment,
        secrets,
    )
    return Care(NatsCare(to.nats, nats), DatabaseCare(to.database_url, database), records)
