"""Retried steps, and what an ended requirement left behind on its host."""

from collections.abc import Sequence

from sqlalchemy import Delete, Update, delete, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.tables import LeftoverRow, MoveRow, RetryRow
from adapters.sdlc.transaction import RequirementWrite
from pipeline.events import EventType
from pipeline.model import Closing, Leftover, RequirementRef, Retry


async def note_retry(connection: AsyncConnection, retry: Retry) -> None:
    """One row per activity: its latest failure."""
    key = {"workflow_id": retry.workflow_id, "activity_id": retry.activity_id}
    values = {
        "number": retry.number,
        "host": retry.host,
        "step": retry.step,
        "since": retry.since,
        "tries": retry.tries,
        "error": retry.error,
        "last_at": retry.last_at,
    }
    written = insert(RetryRow).values(**key, **values)
    await connection.execute(written.on_conflict_do_update(index_elements=list(key), set_=values))


async def forget_retry(connection: AsyncConnection, workflow_id: str, activity_id: str) -> None:
    """It has succeeded, or is tried no more."""
    mine = (RetryRow.workflow_id == workflow_id) & (RetryRow.activity_id == activity_id)
    await connection.execute(delete(RetryRow).where(mine))


def end_retries(write: RequirementWrite) -> Delete:
    """Nothing of a requirement that has ended is tried again; a cancelled try cannot say so."""
    return delete(RetryRow).where(RetryRow.number == write.number)


def leave_behind(write: RequirementWrite, closing: Closing) -> None:
    """Name what could not be cleaned up, in a row that its host works off and in an event."""
    write.insert(
        LeftoverRow,
        workflow_run=closing.ref.workflow_run,
        host=closing.left_on,
        reason=closing.left,
        created_at=write.at,
    )
    fields = {"host": closing.left_on, "reason": closing.left}
    write.tell(closing.ref.key, EventType.WORKFLOW_UNCLEANED, fields)


async def leftovers(connection: AsyncConnection, host: str) -> Sequence[Leftover]:
    """What is left on that host, oldest first: also of what has moved while it was lost."""
    row, move = LeftoverRow, MoveRow
    ended = select(row.created_at, row.number, row.workflow_run, row.reason, row.tries).where(
        row.host == host, row.cleaned_at.is_(None)
    )
    moved = select(
        move.at, move.number, move.workflow_run, literal("It has moved."), literal(1)
    ).where(move.lost == host, move.cleaned_at.is_(None))
    return [
        Leftover(RequirementRef(number, run), reason, tries)
        for _, number, run, reason, tries in sorted(
            [*await connection.execute(ended), *await connection.execute(moved)],
            key=lambda found: found[:2],
        )
    ]


async def note_leftover(
    connection: AsyncConnection, number: str, reason: str, host: str = ""
) -> None:
    """Another try has failed; without a reason everything is cleaned up, which is said once.

    `host` is where; empty for the only one that has left anything.
    """
    if not reason:
        mine = (MoveRow.number == number) & (MoveRow.lost == host)
        await connection.execute(update(MoveRow).where(mine).values(cleaned_at=func.now()))
    if reason:
        values = {"reason": reason, "tries": LeftoverRow.tries + 1, "tried_at": func.now()}
        await connection.execute(_open(number, host).values(values))
        return
    write = await RequirementWrite.lock(connection, number)
    done = _open(number, host).values(cleaned_at=write.at).returning(LeftoverRow.host)
    place = (await connection.execute(done)).scalar_one_or_none()
    if place is None:
        return
    run = write.row["workflow_run"]
    write.tell(f"{number}/{run}", EventType.WORKFLOW_CLEANED, {"host": place})
    await write.flush()


def _open(number: str, host: str) -> Update:
    mine = (LeftoverRow.number == number) & LeftoverRow.cleaned_at.is_(None)
    return update(LeftoverRow).where(mine & (LeftoverRow.host == host) if host else mine)
