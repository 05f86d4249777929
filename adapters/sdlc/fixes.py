"""Failures go back to their owners: rows of fixes, and their merges.

Each write locks the repaired requirement's row, its root, first.
"""

from collections.abc import Mapping

from pydantic import TypeAdapter
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.failures import record_failure
from adapters.sdlc.requirements import Acceptance, accept
from adapters.sdlc.tables import BlockerRow, FailureRow, FixRow, GateRow, StageRow
from adapters.sdlc.transaction import RequirementWrite
from pipeline.model import (
    ORCHESTRATOR,
    Failure,
    Fix,
    FixMerge,
    FixMerged,
    FixOpening,
    RequirementState,
)

FAILURE = TypeAdapter(Failure)
"""A failure as JSON and back."""


async def open_fixes(connection: AsyncConnection, opening: FixOpening) -> None:
    """Rows of fixes with parent and blocker links; a repeat does nothing.

    Raises: AlreadyStarted, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, opening.root.number)
    if await _are_open(connection, opening):
        return
    orders = {order.number: order for order in opening.orders}
    await accept(
        connection,
        [
            # no description of its own: its agent is told the original task
            Acceptance(orders[fix.number], "", fix.parent, fix.owner, ORCHESTRATOR)
            for fix in opening.fixes
        ],
    )
    for fix in opening.fixes:
        _insert_fix(write, opening, fix)
    if write.state is RequirementState.BLOCKED:
        write.set(waiting_for=_waiting_for(write, opening))
    await write.flush()


async def merge_fix(connection: AsyncConnection, merge: FixMerge, merged: FixMerged) -> None:
    """The gate of a fix's merge, and its failure if it conflicts; a repeat does nothing.

    Raises: UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, merge.root.number)
    gate_id = f"{merge.root.key}/merge {merge.fix.number}"
    known = select(GateRow.gate_id).where(GateRow.gate_id == gate_id)
    if (await connection.execute(known)).scalar() is not None:
        return
    write.insert(
        GateRow,
        gate_id=gate_id,
        gate=f"merge {merge.fix.number}",
        stage=merge.fix.stage,
        commit=merge.commit,
        verdict="red" if merged.failure else "green",
        started_at=None,
        ended_at=write.at,
        log_reference="",
    )
    if merged.failure:
        seq = await _next_failure(connection, merge)
        record_failure(write, merge.round, seq, merged.failure)
    elif merged.head:
        write.set(head_commit=merged.head.commit)
    await write.flush()


async def attempts(connection: AsyncConnection, number: str) -> Mapping[str, int]:
    """The latest attempt of every stage."""
    query = select(StageRow.stage, StageRow.attempt).where(StageRow.number == number)
    return {row.stage: row.attempt for row in await connection.execute(query)}


async def _are_open(connection: AsyncConnection, opening: FixOpening) -> bool:
    numbers = [fix.number for fix in opening.fixes]
    query = select(FixRow.number).where(FixRow.number.in_(numbers))
    return (await connection.execute(query)).first() is not None


def _insert_fix(write: RequirementWrite, opening: FixOpening, fix: Fix) -> None:
    write.insert(
        FixRow,
        number=fix.number,
        root=write.number,
        round=opening.round,
        depth=fix.depth,
        stage=fix.stage,
        gate=fix.failure.gate,
        failure=FAILURE.dump_python(fix.failure, mode="json"),
    )
    write.insert(
        BlockerRow,
        round=opening.round,
        blocked_by=fix.number,
        reason=f"{fix.failure.gate} is red",
        created_at=write.at,
    )


def _waiting_for(write: RequirementWrite, opening: FixOpening) -> str:
    """The fixes under way; those of a fix take its place."""
    replaced = {fix.parent for fix in opening.fixes}
    waiting = [name for name in write.row["waiting_for"].split(", ") if name not in replaced]
    kept = [name for name in waiting if name and name != ORCHESTRATOR]
    return ", ".join([*(fix.number for fix in opening.fixes), *kept])


async def _next_failure(connection: AsyncConnection, merge: FixMerge) -> int:
    query = select(func.coalesce(func.max(FailureRow.seq), 0) + 1).where(
        FailureRow.number == merge.root.number, FailureRow.round == merge.round
    )
    return int((await connection.execute(query)).scalar_one())
