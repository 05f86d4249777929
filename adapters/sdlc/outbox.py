"""The outbox: committed events go out in order, each once."""

import asyncio
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any

from sqlalchemy import ARRAY, Text, any_, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.database import Database
from adapters.sdlc.tables import EventRow
from adapters.sdlc.transaction import read_together
from pipeline.errors import DependencyUnavailable
from pipeline.events import Event, EventType
from pipeline.ports import EventPublisher

BATCH = 500
"""Events at once: bounds memory after a long outage."""

_OWED = (
    EventRow.number == any_(bindparam("numbers", type_=ARRAY(Text)))
) & EventRow.published_at.is_(None)
# In one order everywhere, so that two batches cannot wait for each other's locks.
_OWING = select(EventRow.number).where(_OWED).distinct().order_by(EventRow.number).subquery()
_LOCK_OWING = select(func.pg_advisory_xact_lock(func.hashtextextended(_OWING.c.number, 0)))
_BATCH = select(EventRow.id).where(_OWED).order_by(EventRow.id).limit(BATCH)
_TAKE = (
    update(EventRow)
    .where(EventRow.id.in_(_BATCH.scalar_subquery()))
    .values(published_at=func.now())
    .returning(
        EventRow.id,
        EventRow.event_id,
        EventRow.type,
        EventRow.number,
        EventRow.subject,
        EventRow.payload,
    )
)
_NUMBERS = select(EventRow.number).where(EventRow.published_at.is_(None)).distinct()

Boarding = tuple[set[str], asyncio.Task[Counter[str]]]
"""The requirements of a batch that has not left yet, and what it will have sent of each."""


class Outbox:
    """Publishes for many requirements in one transaction.

    Who comes while a batch is out goes with the next one: the more there is, the less each costs.
    """

    def __init__(self, database: Database) -> None:
        """Take the database; nothing runs before somebody publishes."""
        self._database = database
        self._boarding: dict[EventPublisher, Boarding] = {}
        self._last: asyncio.Task[Counter[str]] | None = None

    async def publish(self, number: str, publisher: EventPublisher) -> int:
        """Publish what the requirement owes now; returns how many events went out.

        Raises: DependencyUnavailable.
        """
        try:
            # Shielded: a caller that is cancelled leaves the others' events on their way.
            sent = await asyncio.shield(self._join(number, publisher))
        except DependencyUnavailable:
            # Alone once more: what the server refuses of one must not hold up the others.
            sent = await self._send(publisher, {number})
        return sent.pop(number, 0)  # of several callers for one requirement the first counts them

    async def settle(self) -> None:
        """Wait until every batch is back, also those whose callers are gone."""
        if self._last:
            await asyncio.wait({self._last})

    def _join(self, number: str, publisher: EventPublisher) -> asyncio.Task[Counter[str]]:
        if publisher not in self._boarding:
            numbers: set[str] = set()
            self._last = asyncio.create_task(self._depart(publisher, numbers, self._last))
            self._boarding[publisher] = numbers, self._last
        numbers, batch = self._boarding[publisher]
        numbers.add(number)
        return batch

    async def _depart(
        self,
        publisher: EventPublisher,
        numbers: set[str],
        before: asyncio.Task[Counter[str]] | None,
    ) -> Counter[str]:
        if before:
            await asyncio.wait({before})
        del self._boarding[publisher]
        return await self._send(publisher, numbers)

    async def _send(self, publisher: EventPublisher, numbers: set[str]) -> Counter[str]:
        sent: Counter[str] = Counter()
        while True:
            batch = await self._database.write(
                lambda connection: publish_batch(connection, numbers, publisher)
            )
            sent += batch
            if batch.total() < BATCH:
                return sent


async def publish_batch(
    connection: AsyncConnection, numbers: Collection[str], publisher: EventPublisher
) -> Counter[str]:
    """Publish what is owed under the requirements' locks; returns how many went out of each.

    The mark commits after the server has stored the events. Dying in between sends them again,
    and JetStream drops the repeat by its id.

    Raises: DependencyUnavailable; nothing is marked then.
    """
    asked = {"numbers": list(numbers)}
    # Two statements: the snapshot of the second is younger than the locks, so it sees what is left.
    _, taken = await read_together(connection, (_LOCK_OWING, asked), (_TAKE, asked))
    if taken:
        await publisher.publish([_event(row) for row in sorted(taken, key=itemgetter("id"))])
    return Counter(row["number"] for row in taken)


async def numbers_owing(connection: AsyncConnection) -> Sequence[str]:
    """Requirements that have unpublished events."""
    return (await connection.execute(_NUMBERS)).scalars().all()


def _event(row: Mapping[str, Any]) -> Event:
    kind = EventType(row["type"])
    return Event(row["event_id"], kind, row["number"], row["subject"], row["payload"])
