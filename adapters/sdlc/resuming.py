"""A requirement that stood still goes on, by an answer or by its fixes."""

from collections.abc import Mapping

from sqlalchemy import Update, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.answers import close_escalations, is_recorded, note
from adapters.sdlc.escalating import escalate
from adapters.sdlc.groups import complete_group
from adapters.sdlc.stages import lose
from adapters.sdlc.writing import RequirementWrite, StageRecord
from adapters.sdlc_tables import BlockerRow, FailureRow, RequirementRow
from pipeline.events import EventType
from pipeline.model import HUMAN, Reopening, RequirementRef, RequirementState, StageState
from pipeline.plan_rules import DELIVER


async def reopen(connection: AsyncConnection, reopening: Reopening) -> None:
    """Record an answer and what it set going again; a repeat does nothing.

    Raises: IllegalTransition, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, reopening.ref.number)
    if await is_recorded(write, reopening.occurrence):
        return
    await write.load_stages()
    set_going = (*reopening.stages, *reopening.approved)
    note(write, reopening.occurrence, reopening.answer, set_going, reopening.who, reopening.why)
    write.update_all(
        _resolve_answered(write, reopening),
        close_escalations(write, reopening.answer, reopening.who, reopening.why),
    )
    for name in reopening.stages:
        reopen_stage(write, write.stage(name), reopening.who, reopening.why)
    for name in reopening.approved:
        await _approve_stage(write, write.stage(name), reopening)
    # An answer may come while siblings of what failed still run: then nothing stood still.
    if write.state is RequirementState.BLOCKED:
        resume(write, reopening.ref, reopening.occurrence, set_going, reopening.who, reopening.why)
        write.update_all(_resolve_answered_blockers(write))
    if write.state is not RequirementState.HELD:  # then it waits for who holds it
        write.set(waiting_for=reopening.waiting_for)
    if reopening.escalation:
        escalate(write, reopening.ref, write.row["round"], reopening.escalation)
    await write.flush()


def reopen_stage(write: RequirementWrite, stage: StageRecord, who: str, why: str) -> None:
    """Set a stage back to waiting, and give up a run of it that nobody has closed."""
    lose(write, stage, f"Lost; reopened by {who}.")
    # Blocked in the workflow alone: its round has not been reported yet.
    if stage.state is not StageState.WAITING:
        write.move_stage(stage, StageState.WAITING, who=who, why=why)


async def complete_stage(
    write: RequirementWrite, stage: StageRecord, who: str, why: str, fields: Mapping[str, object]
) -> None:
    """Complete a stage in the name of its last run, which did not by itself."""
    write.move_stage(stage, StageState.COMPLETED, who=who, why=why)
    told = {"stage": stage.stage, "agent": stage.agent, "attempt": stage.attempt, **fields}
    write.tell(str(stage.run_id), EventType.STAGE_COMPLETED, told)
    await complete_group(write, stage)


def resume(
    write: RequirementWrite,
    ref: RequirementRef,
    occurrence: int,
    stages: tuple[str, ...],
    who: str,
    why: str,
) -> None:
    """BLOCKED -> RUNNING and `workflow.resumed`; `stages` are those that wait again."""
    if write.row["workflow_run"] is None:  # its opening has failed: no host has it
        write.move(RequirementState.HELD, who=who, why=why)
        write.move(RequirementState.ACCEPTED, who=who, why=why)
    else:
        write.move(RequirementState.RUNNING, who=who, why=why)
    write.set(reason="")
    fields = {"round": write.row["round"], "stages": list(stages), "who": who, "why": why}
    write.tell(ref.key, EventType.WORKFLOW_RESUMED, fields, occurrence=occurrence)


def resolve_failures(write: RequirementWrite) -> Update:
    """Every open failure of the requirement counts as resolved."""
    mine = (FailureRow.number == write.number) & FailureRow.resolved_at.is_(None)
    return update(FailureRow).where(mine).values(resolved_at=write.at)


def _resolve_answered(write: RequirementWrite, reopening: Reopening) -> Update:
    reopened = (*reopening.stages, *reopening.approved, *reopening.checks)
    if not reopened:  # the delivery, which makes every check again
        return resolve_failures(write)
    return resolve_failures(write).where(FailureRow.stage.in_((*reopened, DELIVER)))


def resolve_blockers(write: RequirementWrite) -> Update:
    """Nothing stands in the requirement's way any more."""
    mine = (BlockerRow.number == write.number) & BlockerRow.resolved_at.is_(None)
    return update(BlockerRow).where(mine).values(resolved_at=write.at)


def _resolve_answered_blockers(write: RequirementWrite) -> Update:
    """The question to the human, and fixes that came to nothing; others may be under way."""
    ended = select(RequirementRow.number).where(
        RequirementRow.parent.is_not(None), RequirementRow.ended_at.is_not(None)
    )
    answered = (BlockerRow.blocked_by == HUMAN) | BlockerRow.blocked_by.in_(ended)
    return resolve_blockers(write).where(answered)


async def _approve_stage(write: RequirementWrite, stage: StageRecord, reopening: Reopening) -> None:
    fields = {"summary": reopening.why, "commit": "", "approvedBy": reopening.who}
    await complete_stage(write, stage, reopening.who, reopening.why, fields)
