from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from psycopg import sql
from sqlalchemy import NullPool, create_engine

from adapters.sdlc.migrate import UNKNOWN_REVISION, Schema, pending, schema, upgrade
from adapters.sdlc.tables import Base
from pipeline.errors import NotRepairable
from tests.fixtures_sdlc import PostgresServer


@pytest.fixture
def empty_url(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.clone("template0")
    yield postgres_server.url(name)
    postgres_server.drop(name)


def test_upgraded_database_has_the_tables_of_the_models(empty_url: str) -> None:
    upgrade(empty_url)

    with create_engine(empty_url, poolclass=NullPool).connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, Base.metadata) == []


def test_pending_until_upgraded(empty_url: str) -> None:
    assert pending(empty_url)
    upgrade(empty_url)
    assert not pending(empty_url)
    upgrade(empty_url)
    assert not pending(empty_url)


def test_of_several_upgrades_at_once_one_does_it(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [empty_url] * 4))

    assert not pending(empty_url)


@pytest.mark.parametrize("revision", ["9999", "0006"], ids=["newer", "never released"])
def test_database_of_an_unknown_revision_is_refused_and_left(
    postgres_server: PostgresServer, database_url: str, revision: str
) -> None:
    assert schema(database_url) is Schema.CURRENT
    move = sql.SQL("UPDATE alembic_version SET version_num = {}").format(sql.Literal(revision))
    postgres_server.execute(move, database=database_url.rpartition("/")[2])

    with pytest.raises(NotRepairable) as refused:
        upgrade(database_url)

    assert str(refused.value).endswith(f": {UNKNOWN_REVISION}")
    assert schema(database_url) is Schema.UNKNOWN
    assert not pending(database_url)
