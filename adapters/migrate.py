"""Bring the SDLC database to the schema that this version of the program needs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text

from adapters.sdlc.database import address_of, connect_arguments, reaching

MIGRATIONS = Path(__file__).resolve().parent.parent / "migrations"
_LOCK = "agog migrations"


def upgrade(database_url: str) -> None:
    """Run every migration that is missing; of several callers at once one does it.

    Raises: DependencyUnavailable.
    """
    with _connected(database_url) as connection:
        lock = text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")
        connection.execute(lock, {"name": _LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def pending(database_url: str) -> bool:
    """Whether migrations are missing. Raises: DependencyUnavailable."""
    with _connected(database_url) as connection:
        current = MigrationContext.configure(connection).get_current_heads()
    return set(current) != set(ScriptDirectory.from_config(_config()).get_heads())


@contextmanager
def _connected(database_url: str) -> Iterator[Connection]:
    engine = create_engine(database_url, poolclass=NullPool, connect_args=connect_arguments())
    with reaching(address_of(engine.url)), engine.begin() as connection:
        yield connection


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    return config
