"""Connections that are refused by a database of another installation."""

import pytest
from sqlalchemy import NullPool, create_engine, text

from adapters.sdlc.reader import create_reader
from adapters.sdlc.store import create_store
from pipeline.errors import DependencyUnavailable, UnknownRequirement, WrongInstallation
from tests.sdlc_factory import an_order

OURS, THEIRS = "11111111-aaaa", "22222222-bbbb"


def become(database_url: str, installation: str) -> None:
    """As if another database answered from now on: every connection is made anew."""
    with create_engine(database_url, poolclass=NullPool).begin() as connection:
        connection.execute(text("DELETE FROM installation"))
        connection.execute(
            text("INSERT INTO installation VALUES (1, :id, 'n', 'default', 'a', now(), now())"),
            {"id": installation},
        )
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )


async def test_no_row_of_another_installation_is_read_or_written(database_url: str) -> None:
    become(database_url, OURS)
    store, reader = create_store(database_url, OURS), create_reader(database_url, OURS)
    await store.accept(an_order("REQ-1"), "")
    assert (await reader.requirement("REQ-1")).number == "REQ-1"

    become(database_url, THEIRS)

    said = "belongs to another installation: it is 22222222's, and this process works for 11111111"
    for work in (
        store.accept(an_order("REQ-2"), ""),
        store.publish_pending("REQ-1", None),  # type: ignore[arg-type] # nothing is read
        reader.requirement("REQ-1"),
    ):
        with pytest.raises(WrongInstallation, match=said):
            await work

    become(database_url, OURS)
    with pytest.raises(UnknownRequirement):
        await reader.requirement("REQ-2")
    await store.accept(an_order("REQ-3"), "")
    await store.close()
    await reader.close()


async def test_database_without_an_installation_is_nobodys(database_url: str) -> None:
    reader = create_reader(database_url, OURS)

    with pytest.raises(DependencyUnavailable, match="it knows no installation yet"):
        await reader.requirement("REQ-1")
    await reader.close()
