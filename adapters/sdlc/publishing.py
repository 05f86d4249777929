"""The outbox: committed events go out in order, each once."""

from collections.abc import Sequence

from sqlalchemy import bindparam, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc_tables import EventRow
from pipeline.events import Event, EventType
from pipeline.ports import EventPublisher

BATCH = 500
"""Events at once: bounds memory after a long outage."""

_OWED = EventRow.number == bindparam("number"), EventRow.published_at.is_(None)
_ANY = select(EventRow.id).where(*_OWED).limit(1)
_LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:number, 0))")
_BATCH = (
    select(
        EventRow.id,
        EventRow.event_id,
        EventRow.type,
        EventRow.number,
        EventRow.subject,
        EventRow.payload,
    )
    .where(*_OWED)
    .order_by(EventRow.id)
    .limit(BATCH)
)
_MARK = (
    update(EventRow)
    .where(EventRow.id.in_(bindparam("ids", expanding=True)))
    .values(published_at=func.now())
)
_NUMBERS = select(EventRow.number).where(EventRow.published_at.is_(None)).distinct()


async def owes_events(connection: AsyncConnection, number: str) -> bool:
    """Whether there is anything to publish: one look at a small index."""
    return (await connection.execute(_ANY, {"number": number})).scalar() is not None


async def publish_batch(connection: AsyncConnection, number: str, publisher: EventPublisher) -> int:
    """Publish what is owed under the requirement's lock; returns how many went out.

    Dying between sending and marking sends again, and JetStream drops the repeat by its id.

    Raises: DependencyUnavailable; nothing is marked then.
    """
    await connection.execute(_LOCK, {"number": number})
    rows = (await connection.execute(_BATCH, {"number": number})).all()
    if rows:
        await publisher.publish(
            [
                Event(row.event_id, EventType(row.type), row.number, row.subject, row.payload)
                for row in rows
            ]
        )
        await connection.execute(_MARK, {"ids": [row.id for row in rows]})
    return len(rows)


async def numbers_owing(connection: AsyncConnection) -> Sequence[str]:
    """Requirements that have unpublished events."""
    return (await connection.execute(_NUMBERS)).scalars().all()
