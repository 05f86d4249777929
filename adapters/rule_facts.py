"""The port `RuleFacts`: facts from the SDLC database, within two seconds or not at all."""

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncEngine

from adapters.sdlc.database import NAME, Database, async_engine
from adapters.sdlc.rule_facts import requirement_facts
from adapters.waiting import within
from pipeline.errors import DependencyUnavailable, UnknownRequirement
from pipeline.numbers import FIX_LENGTH
from pipeline.questions import RequirementFacts

ANSWER_SECONDS = 2.0
"""An agent waits for the answer, which is given without facts after that."""
PAUSE_SECONDS = 5.0
"""How long a silent database is not asked again: every question would wait for nothing."""
_CONNECTIONS = 2


def create_rule_facts(database_url: str) -> "SdlcRuleFacts":
    """Facts from `postgresql+psycopg://…`, over connections of their own; made on first use."""
    return SdlcRuleFacts(async_engine(database_url, pool_size=_CONNECTIONS))


class SdlcRuleFacts:
    """Reads the facts of requirements; close it in the end."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._database = Database(engine)
        # who waits for a connection has not asked the database yet: his time does not run
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._silent_until = 0.0

    async def of(self, number: str) -> RequirementFacts:
        """The facts of a requirement. Raises: UnknownRequirement, DependencyUnavailable."""
        facts = await self._ask(number) if len(number) <= FIX_LENGTH else None
        if facts is None:
            raise UnknownRequirement(f"There is no requirement {number[:FIX_LENGTH]}.")
        return facts

    async def close(self) -> None:
        """Give the connections back."""
        await self._database.close()

    async def _ask(self, number: str) -> RequirementFacts | None:
        async with self._connections:
            if time.monotonic() < self._silent_until:
                raise self._silent()
            reading = self._database.read(lambda c: requirement_facts(c, number))
            try:
                return await within(ANSWER_SECONDS, reading)
            except TimeoutError:
                self._silent_until = time.monotonic() + PAUSE_SECONDS
                raise self._silent() from None

    def _silent(self) -> DependencyUnavailable:
        remedy = f"It has not answered within {ANSWER_SECONDS:g} s."
        return DependencyUnavailable(NAME, self._database.address, remedy)
