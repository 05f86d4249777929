"""What a round of fixes achieved: green gates resolve, and the requirement goes on."""

from sqlalchemy import Select, Update, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.answers import is_recorded, note
from adapters.sdlc.resuming import (
    complete_stage,
    reopen_stage,
    resolve_blockers,
    resolve_failures,
    resume,
)
from adapters.sdlc.writing import RequirementWrite, StageRecord
from adapters.sdlc_tables import BlockerRow, FailureRow, FixRow, StageRow
from pipeline.model import (
    ORCHESTRATOR,
    REPAIR,
    RequirementState,
    Settlement,
    StageOutcome,
)


async def settle(connection: AsyncConnection, settlement: Settlement) -> None:
    """What a round of fixes achieved: only a green gate resolves its blocker.

    A repeat does nothing. Raises: IllegalTransition, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, settlement.ref.number)
    if await is_recorded(write, settlement.occurrence):
        return
    await write.load_stages()
    reopened = tuple(stage for stage, _ in settlement.reopened)
    note(write, settlement.occurrence, REPAIR, reopened, ORCHESTRATOR, "")
    if settlement.green:
        write.update_all(_resolve_failures(write, settlement), _resolve_blockers(write, settlement))
    for fix, outcome in settlement.replaced:
        await _replace_stage(write, write.stage(outcome.stage), fix, outcome)
    for name, reason in settlement.reopened:
        reopen_stage(write, write.stage(name), ORCHESTRATOR, reason)
    _go_on(write, settlement, reopened)
    await write.flush()


def _resolve_failures(write: RequirementWrite, settlement: Settlement) -> Update:
    merges = _fixes_of(write, settlement).with_only_columns("merge " + FixRow.number)
    is_green = or_(
        tuple_(FailureRow.stage, FailureRow.gate).in_(settlement.green),
        FailureRow.gate.in_(merges),  # a conflict that a fix of the fix has resolved
    )
    return resolve_failures(write).where(is_green)


def _fixes_of(write: RequirementWrite, settlement: Settlement) -> Select[str]:
    """The fixes, and fixes of fixes, that repaired what is green."""
    gates = [gate for _, gate in settlement.green]
    return select(FixRow.number).where(FixRow.root == write.number, FixRow.gate.in_(gates))


def _resolve_blockers(write: RequirementWrite, settlement: Settlement) -> Update:
    return resolve_blockers(write).where(BlockerRow.blocked_by.in_(_fixes_of(write, settlement)))


async def _replace_stage(
    write: RequirementWrite, stage: StageRecord, fix: str, outcome: StageOutcome
) -> None:
    """The fix's run stands for the stage's: those downstream are told its notice."""
    query = select(StageRow.run_id).where(StageRow.number == fix)
    run_id = (await write.connection.execute(query)).scalar_one()
    # The fix's merge has a gate of its own, which names the commit.
    fields = {"summary": outcome.summary, "commit": "", "repairedBy": fix}
    await complete_stage(write, stage, ORCHESTRATOR, f"Repaired by {fix}.", fields)
    # Only now: its group is completed in the name of its own run, for the fix has told of its own.
    stage.set(run_id=run_id)


def _go_on(write: RequirementWrite, settlement: Settlement, reopened: tuple[str, ...]) -> None:
    if write.state is not RequirementState.HELD:  # then it waits for who holds it
        write.set(waiting_for=settlement.waiting_for)
    if write.state is RequirementState.BLOCKED and not settlement.waiting_for:
        why = f"Green again: {', '.join(gate for _, gate in settlement.green)}."
        resume(write, settlement.ref, settlement.occurrence, reopened, ORCHESTRATOR, why)
