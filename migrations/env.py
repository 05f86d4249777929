"""How alembic reaches the SDLC database: over the caller's connection, or the settings' address."""

from alembic import context
from sqlalchemy import Connection, create_engine

from adapters.sdlc.tables import Base
from settings import Settings


def _migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=Base.metadata)
    with context.begin_transaction():
        context.run_migrations()


def _run() -> None:
    given = context.config.attributes.get("connection")
    if given is not None:
        _migrate(given)
        return
    with create_engine(Settings().database_url.get_secret_value()).begin() as connection:
        _migrate(connection)


_run()
