"""The outbox: committed events go out in order, each once."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc_tables import EventRow
from pipeline.events import Event, EventType
from pipeline.ports import EventPublisher

BATCH = 500
"""Events at once: bounds memory after a long outage."""

_OWED = (EventRow.number == bindparam("req_number")) & EventRow.published_at.is_(None)
_LOCK_IF_OWED = select(
    func.pg_advisory_xact_lock(func.hashtextextended(bindparam("req_number"), 0))
).where(exists().where(_OWED))
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


async def publish_batch(connection: AsyncConnection, number: str, publisher: EventPublisher) -> int:
    """Publish what is owed under the requirement's lock; returns how many went out.

    The mark commits after the server has stored the events. Dying in between sends them again,
    and JetStream drops the repeat by its id.

    Raises: DependencyUnavailable; nothing is marked then.
    """
    if not (await connection.execute(_LOCK_IF_OWED, {"req_number": number})).all():
        return 0
    # A statement of its own: its snapshot is younger than the lock, so it sees what is left.
    taken = (await connection.execute(_TAKE, {"req_number": number})).all()
    if taken:
        await publisher.publish([_event(row) for row in sorted(taken, key=lambda row: row.id)])
    return len(taken)


async def numbers_owing(connection: AsyncConnection) -> Sequence[str]:
    """Requirements that have unpublished events."""
    return (await connection.execute(_NUMBERS)).scalars().all()


def _event(row: Row[*tuple[Any, ...]]) -> Event:
    return Event(row.event_id, EventType(row.type), row.number, row.subject, row.payload)
