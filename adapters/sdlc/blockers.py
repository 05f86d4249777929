"""Blockers that a user names: a requirement waits until another one is delivered.

What they hold is asked at the P0 gate (`holds.py`); who changes them takes that gate exclusively.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import ColumnElement, bindparam, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.holds import USER_ROUND, lock_gate, waited_for
from adapters.sdlc.tables import BlockerRow, RequirementRow
from adapters.sdlc.transaction import RequirementWrite, lock_rows
from pipeline.errors import RefusedInput, UnknownRequirement
from pipeline.model import RequirementState

_REASON = "Named by a user."
_OPEN = (BlockerRow.round == USER_ROUND) & BlockerRow.resolved_at.is_(None)
WAITS_FOR = (
    select(BlockerRow.number).where(BlockerRow.blocked_by == bindparam("number"), _OPEN).limit(1)
)
"""Anybody who waits for the requirement `number`."""


async def add_blocker(connection: AsyncConnection, number: str, by: str) -> None:
    """Let a requirement wait for another one; a repeat does nothing.

    Raises: RefusedInput with the reason, UnknownRequirement.
    """
    await lock_rows(connection, {number, by})
    state = await _state(connection, number)
    if state is None:
        raise UnknownRequirement(f"There is no requirement {number}.")
    if state.is_final:
        raise RefusedInput(f"{number} has ended: it is {state}.")
    await refuse_fix(connection, number)
    await lock_gate(connection)
    await add(connection, number, (by,))


async def remove_blocker(connection: AsyncConnection, number: str, by: str) -> None:
    """Let a requirement wait no longer for that one.

    Raises: RefusedInput if it does not, UnknownRequirement.
    """
    await lock_rows(connection, {number})
    if await _state(connection, number) is None:
        raise UnknownRequirement(f"There is no requirement {number}.")
    await lock_gate(connection)
    mine = (BlockerRow.number == number) & (BlockerRow.blocked_by == by)
    if not await _resolve(connection, mine):
        raise RefusedInput(f"{number} is not blocked by {by}.")


async def add(connection: AsyncConnection, number: str, blockers: Sequence[str]) -> None:
    """Rows of blockers; their rows are locked, the gate is owned. Raises: RefusedInput."""
    for by in blockers:
        await _check(connection, number, by)
        values = {"created_at": datetime.now(UTC), "resolved_at": None}
        key = {"number": number, "round": USER_ROUND, "blocked_by": by}
        statement = insert(BlockerRow).values(**key, reason=_REASON, **values)
        await connection.execute(
            statement.on_conflict_do_update(
                constraint="blockers_pkey",
                set_=values,
                where=BlockerRow.resolved_at.is_not(None),
            )
        )


async def is_waited_for(write: RequirementWrite) -> bool:
    """Whether anybody waits for the requirement; nobody begins to while its row is locked."""
    return bool(await write.read(WAITS_FOR, number=write.number))


async def resolve_dependents(write: RequirementWrite) -> None:
    """The requirement is delivered: nobody waits for it any more. The gate is owned."""
    await _resolve(write.connection, BlockerRow.blocked_by == write.number)


async def _resolve(connection: AsyncConnection, which: ColumnElement[bool]) -> bool:
    statement = update(BlockerRow).where(which, _OPEN).values(resolved_at=datetime.now(UTC))
    return (await connection.execute(statement.returning(BlockerRow.number))).first() is not None


async def _check(connection: AsyncConnection, number: str, by: str) -> None:
    if number == by:
        raise RefusedInput(f"{number} cannot wait for itself: it would wait for ever.")
    state = await _state(connection, by)
    if state is None:
        raise RefusedInput(f"There is no requirement {by} that {number} could wait for.")
    if state.is_final:
        raise RefusedInput(f"{by} has ended: it is {state}; nothing can wait for it.")
    await refuse_fix(connection, by)
    tree = waited_for(select(literal(by).label("number")))
    if number in set((await connection.execute(tree)).scalars()):
        raise RefusedInput(f"{by} waits for {number}, directly or not: they would wait for ever.")


async def refuse_fix(connection: AsyncConnection, number: str) -> None:
    """Raises: RefusedInput for a fix, which goes with what it repairs."""
    query = select(RequirementRow.parent).where(RequirementRow.number == number)
    if parent := (await connection.execute(query)).scalar():
        raise RefusedInput(f"{number} is a fix of {parent}: name the requirement that it repairs.")


async def _state(connection: AsyncConnection, number: str) -> RequirementState | None:
    query = select(RequirementRow.state).where(RequirementRow.number == number)
    found = (await connection.execute(query)).scalar()
    return RequirementState(found) if found else None
