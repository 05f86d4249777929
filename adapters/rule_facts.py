"""The port `RuleFacts`: facts from the SDLC database, within two seconds or not at all."""

import asyncio
import time

from sqlalchemy.ext.asyncio import AsyncEngine

from adapters.sdlc.database import NAME, Database, async_engine
from adapters.sdlc.rule_facts import requirement_facts
from pipeline.errors import DependencyUnavailable, UnknownRequirement
from pipeline.numbers import FIX_LENGTH
from pipeline.questions import RequirementFacts

ANSWER_SECONDS = 2.0
"""An agent waits for the answer: what the database does not say by then it does not say."""
PAUSE_SECONDS = 5.0
"""A silent database is not asked again before: each question would wait for it in vain."""
_CONNECTIONS = 2


def create_rule_facts(database_url: str) -> "SdlcRuleFacts":
    """Facts from `postgresql+psycopg://…`, over connections of their own; made on first use."""
    return SdlcRuleFacts(async_engine(database_url, pool_size=_CONNECTIONS))


class SdlcRuleFacts:
    """Reads the facts of requirements; close it in the end."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._database = Database(engine)
        # whoever waits for a connection has not yet asked the database
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._silent_until = 0.0
        self._late: set[asyncio.Task[RequirementFacts | None]] = set()

    async def of(self, number: str) -> RequirementFacts:
        """The facts of a requirement. Raises: UnknownRequirement, DependencyUnavailable."""
        facts = await self._ask(number) if len(number) <= FIX_LENGTH else None
        if facts is None:
            raise UnknownRequirement(f"There is no requirement {number[:FIX_LENGTH]}.")
        return facts

    async def close(self) -> None:
        """Give the connections back."""
        for task in self._late:
            task.cancel()
        await asyncio.gather(*self._late, return_exceptions=True)
        await self._database.close()

    async def _ask(self, number: str) -> RequirementFacts | None:
        async with self._turns:
            if time.monotonic() < self._silent_until:
                raise self._silent()
            reading = asyncio.create_task(self._read(number))
            try:
                # Not `timeout`: to cancel a connection that hangs can itself take long.
                await asyncio.wait({reading}, timeout=ANSWER_SECONDS)
            finally:
                self._abandon(reading)
            if not reading.done():
                self._silent_until = time.monotonic() + PAUSE_SECONDS
                raise self._silent()
            return reading.result()

    async def _read(self, number: str) -> RequirementFacts | None:
        return await self._database.read(lambda connection: requirement_facts(connection, number))

    def _abandon(self, reading: asyncio.Task[RequirementFacts | None]) -> None:
        if reading.done():
            return
        reading.cancel()
        self._late.add(reading)
        reading.add_done_callback(self._forget)

    def _forget(self, reading: asyncio.Task[RequirementFacts | None]) -> None:
        self._late.discard(reading)
        if not reading.cancelled():
            reading.exception()  # nobody waits for it any more

    def _silent(self) -> DependencyUnavailable:
        remedy = f"It has not answered within {ANSWER_SECONDS:g} s."
        return DependencyUnavailable(NAME, self._database.address, remedy)
