import pytest
from psycopg import sql

from adapters.sdlc.migrate import Schema, pending, schema, upgrade
from pipeline.errors import NotRepairable
from tests.fixtures_sdlc import PostgresServer


@pytest.fixture
def newer_url(postgres_server: PostgresServer, database_url: str) -> str:
    """A database that a later version of the program has migrated."""
    name = database_url.rpartition("/")[2]
    postgres_server.execute(
        sql.SQL("UPDATE alembic_version SET version_num = '9999'"), database=name
    )
    return database_url


def test_schema_is_compared_with_ours(database_url: str) -> None:
    assert schema(database_url) is Schema.CURRENT


def test_database_of_a_newer_program_is_not_upgraded(newer_url: str) -> None:
    assert schema(newer_url) is Schema.AHEAD
    assert not pending(newer_url)
    with pytest.raises(NotRepairable, match="newer version of this program: update this one"):
        upgrade(newer_url)
