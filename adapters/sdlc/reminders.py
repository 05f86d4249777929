"""Reminders of questions about accounts and budgets, which no single workflow waits for.

The worker looks at intervals: while somebody is held, a human is asked again after the time that
the requirement's plan says, then after twice as long, and so on. What was said before stands among
the events, so that a repeat, or a second worker, says nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.tables import AccountRow, BudgetRow, EventRow, HoldRow, RequirementRow
from adapters.sdlc.transaction import RequirementWrite
from pipeline.events import EventType, escalation_event, timestamp

_TIME = TypeAdapter(timedelta)
_REMINDER = str(EventType.ESCALATION_REMINDER)
_OF_ACCOUNTS = (EventType.ACCOUNT_ESCALATION, "account")
_OF_BUDGETS = (EventType.BUDGET_ESCALATION, "budget")


@dataclass(frozen=True)
class DueReminder:
    """A reminder that is due: `question` is the id of the event that asked, `number` who is held.

    `occurrence` counts the reminders of that question.
    """

    question: str
    number: str
    occurrence: int
    asked_at: datetime
    fields: Mapping[str, object]


async def due_reminders(connection: AsyncConnection, at: datetime) -> Sequence[DueReminder]:
    """Those that are due at that time; of each question at most one."""
    held = select(HoldRow.account, HoldRow.budget, HoldRow.number).where(
        HoldRow.ended_at.is_(None), HoldRow.account.is_not(None) | HoldRow.budget.is_not(None)
    )
    holds = (await connection.execute(held.order_by(HoldRow.created_at))).all()
    found = []
    for kind, names, asking in (
        (_OF_ACCOUNTS, [hold.account for hold in holds], _asking_accounts()),
        (_OF_BUDGETS, [hold.budget for hold in holds], _asking_budgets()),
    ):
        asked = set((await connection.execute(asking)).scalars()) if any(names) else set()
        for name in dict.fromkeys(names):
            if name in asked:
                numbers = [hold.number for hold, each in zip(holds, names, strict=True)
                           if each == name]  # fmt: skip
                found.append(await _due(connection, kind, name, numbers, at))
    return [each for each in found if each]


def _asking_accounts() -> Any:
    return select(AccountRow.account).where(AccountRow.needs_human)


def _asking_budgets() -> Any:
    return select(BudgetRow.scope).where(BudgetRow.asked_at.is_not(None))


async def _due(
    connection: AsyncConnection,
    kind: tuple[EventType, str],
    name: str,
    numbers: Sequence[str],
    at: datetime,
) -> DueReminder | None:
    event_type, key = kind
    of_it = (EventRow.type == str(event_type)) & (EventRow.payload[key].astext == name)
    query = select(EventRow).where(of_it).order_by(EventRow.id.desc()).limit(1)
    asked = (await connection.execute(query)).mappings().first()
    if asked is None:
        return None
    said = await _reminders(connection, asked["event_id"])
    patience = await _patience(connection, asked["number"])
    if at < asked["created_at"] + patience * (2 ** (said + 1) - 1):
        return None
    number = asked["number"] if asked["number"] in numbers else numbers[0]
    fields = {each: asked["payload"][each] for each in (key, "reason")}
    return DueReminder(asked["event_id"], number, said + 1, asked["created_at"], fields)


async def remind_held(connection: AsyncConnection, reminder: DueReminder) -> None:
    """Say the question again, unless somebody else has done that meanwhile."""
    write = await RequirementWrite.lock(connection, reminder.number)
    if await _reminders(connection, reminder.question) >= reminder.occurrence:
        return
    fields = {
        **reminder.fields,
        "question": reminder.question,
        "reminder": reminder.occurrence,
        "waitingSince": timestamp(reminder.asked_at),
    }
    kind = EventType.ESCALATION_REMINDER
    write.emit(escalation_event(kind, reminder.question, write.number, write.at, fields))
    await write.flush()


async def _reminders(connection: AsyncConnection, question: str) -> int:
    of_it = EventRow.payload["question"].astext == question
    query = select(func.count()).where(EventRow.type == _REMINDER, of_it)
    return int((await connection.execute(query)).scalar_one())


async def _patience(connection: AsyncConnection, number: str) -> timedelta:
    bound = RequirementRow.plan["pipeline"]["bounds"]["reminder"].astext
    found = await connection.execute(select(bound).where(RequirementRow.number == number))
    return _TIME.validate_python(found.scalar_one())
