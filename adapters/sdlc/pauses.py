"""Pauses: a human keeps a requirement, or all of them, from starting anything, and lets them go.

What they hold is asked at the P0 gate (`holds.py`). A change takes that gate exclusively, so no
stage slips through beside it; the holds of whom it concerns are looked at again.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Update, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.blockers import refuse_fix
from adapters.sdlc.holds import lock_gate
from adapters.sdlc.tables import PauseRow
from adapters.sdlc.transaction import RequirementWrite
from pipeline.errors import RefusedInput
from pipeline.pauses import ALL, Pause, PauseKind, strengthened


async def pause(connection: AsyncConnection, scope: str, kind: PauseKind, who: str) -> Pause:
    """Pause a requirement with its fixes, or all; a repeat may make it stronger.

    Raises: RefusedInput with the reason, UnknownRequirement.
    """
    if scope != ALL:
        write = await RequirementWrite.lock(connection, scope)
        await refuse_fix(connection, scope)
        if write.state.is_final:
            raise RefusedInput(f"{scope} has ended: it is {write.state}.")
    await lock_gate(connection)
    before = await _open(connection, scope)
    kind = strengthened(before, kind)
    if before is None:
        made = Pause(scope, kind, datetime.now(UTC), who)
        values = {"scope": scope, "kind": str(kind), "since": made.since, "who": who}
        await connection.execute(insert(PauseRow).values(**values))
        return made
    await connection.execute(_of(scope).values(kind=str(kind)))
    return Pause(scope, kind, before.since, before.who)


async def unpause(connection: AsyncConnection, scope: str, who: str) -> None:
    """Let a requirement, or all, continue.

    Raises: RefusedInput if it is not paused, UnknownRequirement.
    """
    if scope != ALL:
        await RequirementWrite.lock(connection, scope)
    await lock_gate(connection)
    if await _open(connection, scope) is None:
        raise RefusedInput(await _why_not(connection, scope))
    await connection.execute(_of(scope).values(ended_at=datetime.now(UTC), ended_by=who))


async def open_pauses(connection: AsyncConnection) -> Sequence[Pause]:
    """Every pause that is not over, longest first."""
    query = select(PauseRow.scope, PauseRow.kind, PauseRow.since, PauseRow.who).where(
        PauseRow.ended_at.is_(None)
    )
    found = await connection.execute(query.order_by(PauseRow.since))
    return [Pause(row.scope, PauseKind(row.kind), row.since, row.who) for row in found]


def end_pause(write: RequirementWrite, who: str) -> Update:
    """The requirement has ended, so its pause is over."""
    return _of(write.number).values(ended_at=write.at, ended_by=who)


def _of(scope: str) -> Update:
    return update(PauseRow).where(PauseRow.scope == scope, PauseRow.ended_at.is_(None))


async def _open(connection: AsyncConnection, scope: str) -> Pause | None:
    return next((each for each in await open_pauses(connection) if each.scope == scope), None)


async def _why_not(connection: AsyncConnection, scope: str) -> str:
    if scope == ALL:
        single = " ".join(each.scope for each in await open_pauses(connection))
        return f"Not everything is paused, only: {single}." if single else "Nothing is paused."
    everything = await _open(connection, ALL)
    return (
        f"{scope} is not paused by itself. {everything.reason}"
        if everything
        else (f"{scope} is not paused.")
    )
