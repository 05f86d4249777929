"""Failures go back to their owners: rows of fixes, their merges, and what a round of them achieved.

Each write locks the repaired requirement's row, its root, first.
"""

from collections.abc import Mapping

from pydantic import TypeAdapter
from sqlalchemy import Select, Update, func, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.acceptance import Acceptance, accept
from adapters.sdlc.answers import is_recorded, note
from adapters.sdlc.blocking import record_failure
from adapters.sdlc.groups import complete_group
from adapters.sdlc.writing import RequirementWrite, StageRecord
from adapters.sdlc_tables import BlockerRow, FailureRow, FixRow, GateRow, StageRow
from pipeline.events import EventType
from pipeline.model import (
    ORCHESTRATOR,
    Failure,
    Fix,
    FixMerge,
    FixMerged,
    FixOpening,
    RequirementState,
    Settlement,
    StageOutcome,
    StageState,
)

FAILURE = TypeAdapter(Failure)
"""A failure as JSON and back."""

_DESCRIPTION = ""
"""A fix has none of its own: its agent is told the original task."""


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
            Acceptance(orders[fix.number], _DESCRIPTION, fix.parent, fix.owner, ORCHESTRATOR)
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


async def settle(connection: AsyncConnection, settlement: Settlement) -> None:
    """What a round of fixes achieved: only a green gate resolves its blocker.

    A repeat does nothing. Raises: IllegalTransition, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, settlement.ref.number)
    if await is_recorded(write, settlement.occurrence):
        return
    await write.load_stages()
    why = _why(settlement)
    reopened = tuple(stage for stage, _ in settlement.reopened)
    note(write, settlement.occurrence, "repair", reopened, ORCHESTRATOR, "")
    if settlement.green:
        write.update_all(_resolve_failures(write, settlement), _resolve_blockers(write, settlement))
    for fix, outcome in settlement.replaced:
        await _replace_stage(write, write.stage(outcome.stage), fix, outcome)
    for name, reason in settlement.reopened:
        _reopen_stage(write, write.stage(name), reason)
    _go_on(write, settlement, why)
    await write.flush()


async def attempts(connection: AsyncConnection, number: str) -> Mapping[str, int]:
    """The latest attempt of every stage."""
    query = select(StageRow.stage, StageRow.attempt).where(StageRow.number == number)
    return {row.stage: row.attempt for row in await connection.execute(query)}


# --- opening ----------------------------------------------------------------------------------


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


# --- settling ---------------------------------------------------------------------------------


def _resolve_failures(write: RequirementWrite, settlement: Settlement) -> Update:
    merges = _fixes_of(write, settlement).with_only_columns("merge " + FixRow.number)
    is_green = or_(
        tuple_(FailureRow.stage, FailureRow.gate).in_(settlement.green),
        FailureRow.gate.in_(merges),  # a conflict that a fix of the fix has resolved
    )
    mine = (FailureRow.number == write.number) & FailureRow.resolved_at.is_(None) & is_green
    return update(FailureRow).where(mine).values(resolved_at=write.at)


def _fixes_of(write: RequirementWrite, settlement: Settlement) -> Select[str]:
    """The fixes, and fixes of fixes, that repaired what is green."""
    gates = [gate for _, gate in settlement.green]
    return select(FixRow.number).where(FixRow.root == write.number, FixRow.gate.in_(gates))


def _resolve_blockers(write: RequirementWrite, settlement: Settlement) -> Update:
    mine = (BlockerRow.number == write.number) & BlockerRow.resolved_at.is_(None)
    return (
        update(BlockerRow)
        .where(mine, BlockerRow.blocked_by.in_(_fixes_of(write, settlement)))
        .values(resolved_at=write.at)
    )


async def _replace_stage(
    write: RequirementWrite, stage: StageRecord, fix: str, outcome: StageOutcome
) -> None:
    """The fix's run stands for the stage's: those downstream are told its notice."""
    query = select(StageRow.run_id).where(StageRow.number == fix)
    run_id = (await write.connection.execute(query)).scalar_one()
    write.move_stage(stage, StageState.COMPLETED, why=f"Repaired by {fix}.")
    write.tell(
        str(stage.run_id),
        EventType.STAGE_COMPLETED,
        {
            "stage": stage.stage,
            "agent": stage.agent,
            "attempt": stage.attempt,
            "summary": outcome.summary,
            "commit": outcome.head.commit if outcome.head else "",
            "repairedBy": fix,
        },
    )
    await complete_group(write, stage)  # in the name of its own run: the fix has told of its group
    stage.set(run_id=run_id)


def _reopen_stage(write: RequirementWrite, stage: StageRecord, reason: str) -> None:
    # Blocked in the workflow alone: its round has not been reported.
    if stage.state is not StageState.WAITING:
        write.move_stage(stage, StageState.WAITING, why=reason)


def _go_on(write: RequirementWrite, settlement: Settlement, why: str) -> None:
    write.set(waiting_for=settlement.waiting_for)
    if write.state is not RequirementState.BLOCKED or settlement.waiting_for:
        return
    write.move(RequirementState.RUNNING, why=why)
    write.set(reason="")
    write.tell(
        settlement.ref.key,
        EventType.WORKFLOW_RESUMED,
        {
            "round": settlement.round,
            "stages": [stage for stage, _ in settlement.reopened],
            "who": ORCHESTRATOR,
            "why": why,
        },
        occurrence=settlement.occurrence,
    )


def _why(settlement: Settlement) -> str:
    return f"Green again: {', '.join(gate for _, gate in settlement.green)}."
