"""A human is asked, and asked again."""

from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import EscalationRow
from pipeline.events import EventType, escalation_event
from pipeline.model import Escalation, Reminder, RequirementRef

SUPERSEDED = "superseded"
"""The answer to a question that a later one contains."""


def escalate(
    write: RequirementWrite, ref: RequirementRef, round_: int, escalation: Escalation
) -> None:
    """Record a question to a human and publish it; the caller closes the one before it."""
    asks = [asdict(ask) for ask in escalation.asks]
    write.insert(
        EscalationRow,
        escalation=escalation.occurrence,
        round=round_,
        asks=asks,
        answers=list(escalation.answers),
        created_at=write.at,
    )
    fields = {
        "title": write.row["title"],
        "priority": write.row["priority"],
        "round": round_,
        "escalation": escalation.occurrence,
        "asks": asks,
        "answers": list(escalation.answers),
    }
    for kind in (EventType.WORKFLOW_ESCALATED, EventType.ESCALATION):
        write.emit(escalation_event(kind, ref.key, write.number, write.at, fields))


async def remind(connection: AsyncConnection, reminder: Reminder) -> None:
    """Say an open question again; a repeat, or one that was answered meanwhile, says nothing."""
    write = await RequirementWrite.lock(connection, reminder.ref.number)
    key = (EscalationRow.number == write.number) & (EscalationRow.escalation == reminder.escalation)
    row = (await connection.execute(select(EscalationRow).where(key))).mappings().one_or_none()
    if row is None or row["answered_at"] or row["reminders"] >= reminder.occurrence:
        return
    write.update(
        EscalationRow,
        {"number": write.number, "escalation": reminder.escalation},
        reminders=reminder.occurrence,
    )
    fields = {
        "title": write.row["title"],
        "priority": write.row["priority"],
        "round": row["round"],
        "escalation": reminder.escalation,
        "reminder": reminder.occurrence,
        "waitingSince": row["created_at"].isoformat(),
        "asks": row["asks"],
        "answers": row["answers"],
    }
    kind = EventType.ESCALATION_REMINDER
    write.emit(escalation_event(kind, reminder.ref.key, write.number, write.at, fields))
    await write.flush()
