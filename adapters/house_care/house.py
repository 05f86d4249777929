"""From plain values to a house that is looked after."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

from adapters.house_care.care import HouseCare
from adapters.house_care.database_care import DatabaseCare
from adapters.house_care.nats_care import NatsCare
from adapters.house_care.record_care import RecordCare
from adapters.house_care.restarts import DependencyRestart, RestartCommand
from adapters.local_stack.nats_server import NatsServer
from adapters.local_stack.postgres_server import PostgresServer
from adapters.local_stack.restarting import ServerRestarts
from adapters.nats.connection import NAME as NATS
from adapters.nats.connection import NatsLogin
from adapters.sdlc.database import NAME as DATABASE
from adapters.sdlc.database import address_of

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

    def command(self, setting: str, argv: tuple[str, ...]) -> RestartCommand:
        """The command of that setting; no secret of ours is logged with its output."""
        secrets = filter(None, (self.nats.password, make_url(self.database_url).password))
        return RestartCommand(setting, argv, self.environment, tuple(map(str, secrets)))


def house_care(to: Dependencies, records: RecordCare) -> HouseCare:
    """The house with these dependencies and records."""
    embedded = ServerRestarts(to.home)
    nats = DependencyRestart(
        NATS,
        to.nats.address,
        to.nats.url,
        to.home,
        NatsServer.name,
        lambda: NatsServer(to.home, to.nats.user, to.nats.password),
        embedded,
        to.command(RESTART_NATS, to.restart_nats),
    )
    database = DependencyRestart(
        DATABASE,
        address_of(make_url(to.database_url)),
        to.database_url,
        to.home,
        PostgresServer.name,
        lambda: PostgresServer(to.home),
        embedded,
        to.command(RESTART_DATABASE, to.restart_database),
    )
    return HouseCare(NatsCare(to.nats, nats), DatabaseCare(to.database_url, database), records)
