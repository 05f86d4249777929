"""Migrates the SDLC database to the schema that this version of the program needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text

from adapters.sdlc.database import address_of, connect_arguments, reaching
from pipeline.errors import NotRepairable

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
UNKNOWN_REVISION = (
    "This version of the program does not know the revision of its schema. If a newer one has"
    " migrated it, update this one; if one from before the first release, start with an empty"
    " database."
)
_LOCK = "agog migrations"


class Schema(Enum):
    """How the schema of a database compares with the one that this program needs."""

    CURRENT = auto()
    BEHIND = auto()
    UNKNOWN = auto()
    """Another version of this program has migrated it."""


def upgrade(database_url: str) -> None:
    """Run every missing migration; of several callers at once, one does it.

    Raises: DependencyUnavailable, NotRepairable if its revision is not one of ours.
    """
    with _connected(database_url) as connection:
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        connection.execute(lock, {"name": _LOCK})
        if _schema(connection) is Schema.UNKNOWN:
            address = address_of(connection.engine.url)
            raise NotRepairable(f"The SDLC database at {address}: {UNKNOWN_REVISION}")
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def schema(database_url: str) -> Schema:
    """How the database's schema compares with ours. Raises: DependencyUnavailable."""
    with _connected(database_url) as connection:
        return _schema(connection)


def pending(database_url: str) -> bool:
    """Whether migrations are missing. Raises: DependencyUnavailable."""
    return schema(database_url) is Schema.BEHIND


def _schema(connection: Connection) -> Schema:
    scripts = ScriptDirectory.from_config(_config())
    current = set(MigrationContext.configure(connection).get_current_heads())
    if current == set(scripts.get_heads()):
        return Schema.CURRENT
    known = {script.revision for script in scripts.walk_revisions()}
    return Schema.BEHIND if current <= known else Schema.UNKNOWN


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url, poolclass=NullPool, connect_args=connect_arguments())
    with reaching(address_of(engine.url)), engine.begin() as connection:
        yield connection


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
