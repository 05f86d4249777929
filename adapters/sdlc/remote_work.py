"""Deliverables of remote agents: which run each one is for, and that it was refused or received."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.tables import EventRow, RequirementRow, RunRow
from adapters.sdlc.transaction import RequirementWrite, read_together
from pipeline.events import EventType, event_id
from pipeline.model import RunEnd
from pipeline.remote_work import (
    ANSWER_PREFIX,
    Correlation,
    OrderedRun,
    Received,
    Refusal,
    judged,
)

_RUN = select(RunRow.agent, RunRow.number, RunRow.end, RunRow.exit_code).where(
    RunRow.run_id == bindparam("run_id")
)
_RECEIVED = select(EventRow.payload).where(EventRow.event_id == bindparam("event_id"))
_SAID = select(EventRow.id).where(EventRow.event_id == bindparam("event_id"))
_NUMBER = select(RequirementRow.number).where(RequirementRow.number == bindparam("number"))

_SHOWN = 200
"""Characters of what a refused deliverable says of itself."""


async def record_deliverable(
    connection: AsyncConnection, received: Received
) -> tuple[str, Refusal | None]:
    """Say in an event whether a deliverable was received or refused, once for each message.

    Returns the requirement whose event it is and the refusal; the number is empty where it is about
    no requirement of ours, and nothing was written.
    """
    number = await _number_of(connection, received)
    if not number:
        return "", judged(received, None)
    write = await RequirementWrite.lock(connection, number)
    named = received.named
    run = await _run_of(connection, named.run_id) if named else None
    refusal = judged(received, run)
    scope = named.run_id if named and run else received.subject
    if refusal is None:
        kind, key = EventType.DELIVERABLE_RECEIVED, ""
    else:
        kind, key = EventType.DELIVERABLE_REFUSED, f":{received.key}"
    scope += key
    if not await _rows(connection, _SAID, event_id=event_id(scope, kind)):
        fields: dict[str, object] = {"message": received.key, "subject": received.subject}
        if named:
            fields["runId"], fields["agent"] = named.run_id[:_SHOWN], named.agent[:_SHOWN]
        if refusal:
            fields["reason"] = str(refusal)
        write.tell(scope, kind, fields)
        await write.flush()
    return number, refusal


async def _number_of(connection: AsyncConnection, received: Received) -> str:
    """The requirement of the run that is named, else the one that the subject names."""
    if received.named:
        for row in await _rows(connection, _RUN, run_id=received.named.run_id):
            return str(row["number"])
    number = received.subject.removeprefix(f"{ANSWER_PREFIX}.").partition(".")[2]
    for row in await _rows(connection, _NUMBER, number=number):
        return str(row["number"])
    return ""


async def _run_of(connection: AsyncConnection, run_id: str) -> OrderedRun | None:
    for row in await _rows(connection, _RUN, run_id=run_id):
        got = await _rows(
            connection, _RECEIVED, event_id=event_id(run_id, EventType.DELIVERABLE_RECEIVED)
        )
        has_ended_well = row["end"] == RunEnd.EXITED and row["exit_code"] == 0
        return OrderedRun(
            Correlation(run_id, row["agent"], row["number"]),
            has_failed=row["end"] is not None and not has_ended_well,
            received=str(got[0]["payload"].get("message", "")) if got else "",
        )
    return None


async def _rows(connection: AsyncConnection, statement: Any, **values: object) -> Sequence[Any]:
    (rows,) = await read_together(connection, (statement, values))
    return rows
