"""A human is asked, and asked again."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import EscalationRow
from pipeline.events import EventType, escalation_event, timestamp
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
    fields = _fields(write, round_, escalation.occurrence, asks, escalation.answers)
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
        **_fields(write, row["round"], reminder.escalation, row["asks"], row["answers"]),
        "reminder": reminder.occurrence,
        "waitingSince": timestamp(row["created_at"]),
    }
    kind = EventType.ESCALATION_REMINDER
    write.emit(escalation_event(kind, reminder.ref.key, write.number, write.at, fields))
    await write.flush()


def _fields(
    write: RequirementWrite,
    round_: int,
    escalation: int,
    asks: Sequence[Mapping[str, object]],
    answers: Sequence[str],
) -> Mapping[str, object]:
    """What both say: the question and its reminder."""
    return {
        "title": write.row["title"],
        "priority": write.row["priority"],
        "round": round_,
        "escalation": escalation,
        "asks": list(asks),
        "answers": list(answers),
    }
