"""The SDLC database: whether it answers, and whether its schema is the one that we need."""

import asyncio
from collections.abc import Sequence

from sqlalchemy.exc import DBAPIError

from adapters.house_care.restarts import DependencyRestart
from adapters.readiness import probe_database
from adapters.sdlc.migrate import Schema, schema, upgrade
from adapters.waiting import within
from pipeline.errors import DependencyUnavailable
from pipeline.model import Symptom, SymptomKind

LOOK_SECONDS = 5.0
_COMPONENT = "database"

_SCHEMA = {
    Schema.BEHIND: (SymptomKind.MIGRATIONS_BEHIND, _COMPONENT, "Migrations are missing."),
    Schema.AHEAD: (
        SymptomKind.PROGRAM_BEHIND,
        "program",
        "A newer version of this program has migrated it: update this one.",
    ),
}


class DatabaseCare:
    """Looks at the database with connections of its own: the worker's may all be busy."""

    kinds = frozenset(
        {SymptomKind.DATABASE_DOWN, SymptomKind.MIGRATIONS_BEHIND, SymptomKind.PROGRAM_BEHIND}
    )
    blind = Symptom(SymptomKind.DATABASE_DOWN, _COMPONENT).key

    def __init__(self, database_url: str, restart: DependencyRestart) -> None:
        """Take the SQLAlchemy address; restart so."""
        self._url = database_url
        self._restart = restart

    async def look(self) -> Sequence[Symptom]:
        """What is wrong with the database, one thing at a time."""
        try:
            found = await within(LOOK_SECONDS, self._schema())
        except (DependencyUnavailable, TimeoutError) as error:
            return (Symptom(SymptomKind.DATABASE_DOWN, _COMPONENT, detail=str(error)),)
        except DBAPIError as error:  # it answers, and does not let us in
            return (Symptom(SymptomKind.DATABASE_DOWN, _COMPONENT, detail=str(error.orig)),)
        if found is Schema.CURRENT:
            return ()
        kind, component, detail = _SCHEMA[found]
        return (Symptom(kind, component, detail=detail),)

    async def act(self, symptom: Symptom) -> str:
        """Restart the server, or run the migrations.

        Raises: DependencyUnavailable, NotRepairable.
        """
        if symptom.kind is not SymptomKind.DATABASE_DOWN:
            await asyncio.to_thread(upgrade, self._url)
            return "The migrations that were missing have been run."
        try:
            await probe_database(self._url)
        except DependencyUnavailable:
            return await self._restart.restart()
        return "The SDLC database answers again."

    async def _schema(self) -> Schema:
        await probe_database(self._url)
        return await asyncio.to_thread(schema, self._url)
