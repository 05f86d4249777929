"""A requirement stands still, and is set going again."""

from collections.abc import Iterator

from sqlalchemy import Update, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.answers import close_escalations, is_recorded, note
from adapters.sdlc.escalating import SUPERSEDED, escalate
from adapters.sdlc.groups import complete_group
from adapters.sdlc.stages import lose
from adapters.sdlc.writing import RequirementWrite, StageRecord
from adapters.sdlc_tables import BlockerRow, FailureRow, RequirementRow
from pipeline.events import EventType
from pipeline.model import (
    HUMAN,
    ORCHESTRATOR,
    Failure,
    FailureCollection,
    FailureReport,
    Reopening,
    RequirementState,
    StageState,
)
from pipeline.plan_rules import DELIVER
from pipeline.team import TEAM, Role


async def block(
    connection: AsyncConnection, collection: FailureCollection, report: FailureReport
) -> None:
    """Record a round's failures and who sees to them; a repeat does nothing.

    Raises: IllegalTransition, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, collection.ref.number)
    if write.row["round"] >= collection.round:
        return
    await write.load_stages()
    _record_failures(write, report)
    for stage, reason in _not_started(write, collection):
        _block_stage(write, stage, collection, reason)
    reason = report.text.partition("\n")[0]
    if write.state is not RequirementState.BLOCKED:  # a fix may have left it red
        write.move(RequirementState.BLOCKED, why=reason)
    write.set(round=collection.round, reason=reason, waiting_for=collection.waiting_for)
    _tell_deployed(write, collection, reason)
    _tell(write, collection, report)
    if HUMAN in collection.waiting_for:
        _await_human(write, collection, reason)
    if collection.escalation:
        write.update_all(close_escalations(write, SUPERSEDED, ORCHESTRATOR, ""))
        escalate(write, collection.ref, collection.round, collection.escalation)
    await write.flush()


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
        _reopen_stage(write, write.stage(name), reopening)
    for name in reopening.approved:
        await _approve_stage(write, write.stage(name), reopening)
    # An answer may come while siblings of what failed still run: then nothing stood still.
    if write.state is RequirementState.BLOCKED:
        _resume(write, reopening)
    write.set(waiting_for=reopening.waiting_for)
    if reopening.escalation:
        escalate(write, reopening.ref, write.row["round"], reopening.escalation)
    await write.flush()


# --- blocking -------------------------------------------------------------------------------


def _await_human(write: RequirementWrite, collection: FailureCollection, reason: str) -> None:
    write.insert(
        BlockerRow,
        round=collection.round,
        blocked_by=HUMAN,
        reason=reason,
        created_at=write.at,
    )


def _record_failures(write: RequirementWrite, report: FailureReport) -> None:
    """The report holds every failure that is still open, so it replaces the earlier ones."""
    write.update_all(resolve_failures(write))
    for seq, failure in enumerate(report.failures, 1):
        record_failure(write, report.round, seq, failure)
    for failure in report.failures:
        if failure.stage in write.stages:
            lose(write, write.stage(failure.stage), failure.error)


def record_failure(write: RequirementWrite, round_: int, seq: int, failure: Failure) -> None:
    """The row of a failure; `seq` counts within the round."""
    write.insert(
        FailureRow,
        round=round_,
        seq=seq,
        stage=failure.stage,
        kind=failure.kind,
        gate=failure.gate,
        owners=list(failure.owners),
        severity=int(failure.severity),
        error=failure.error,
        log_reference=failure.log_reference,
        commit=failure.commit,
        created_at=write.at,
    )


def _not_started(
    write: RequirementWrite, collection: FailureCollection
) -> Iterator[tuple[StageRecord, str]]:
    """Stages that wait for what failed, and those whose failure came before their start."""
    reasons = {blocked.stage.name: blocked.reason for blocked in collection.blocked}
    reasons |= {failure.stage: failure.error for failure in collection.failures}
    for stage in write.stages.values():
        if stage.state is StageState.WAITING and stage.stage in reasons:
            yield stage, reasons[stage.stage]


def _block_stage(
    write: RequirementWrite, stage: StageRecord, collection: FailureCollection, reason: str
) -> None:
    write.move_stage(stage, StageState.BLOCKED, why=reason)
    red = [need for need in stage.needs if not write.stage(need).state.is_done]
    write.tell(
        f"{collection.ref.key}/{stage.stage}",  # not a run: a run tells of its own block
        EventType.STAGE_BLOCKED,
        {
            "stage": stage.stage,
            "agent": stage.agent,
            "reason": reason,
            "blockers": red,
        },
        occurrence=collection.round,
    )


def _tell(write: RequirementWrite, collection: FailureCollection, report: FailureReport) -> None:
    write.tell(
        collection.ref.key,
        EventType.WORKFLOW_BLOCKED,
        {
            "round": report.round,
            "severity": report.severity.name,
            "failures": [_told(failure) for failure in report.failures],
        },
        occurrence=report.round,
    )


def _tell_deployed(write: RequirementWrite, collection: FailureCollection, reason: str) -> None:
    """Say that something is deployed which could not be delivered.

    Where every stage is done, what is red are the checks of the delivery.
    """
    deployed = [
        stage.stage
        for stage in write.stages.values()
        if TEAM[stage.agent].role is Role.DEVOPS and stage.state is StageState.COMPLETED
    ]
    if deployed and all(stage.state.is_done for stage in write.stages.values()):
        write.tell(
            collection.ref.key,
            EventType.DEPLOYED_UNDELIVERED,
            {"round": collection.round, "stages": deployed, "reason": reason},
            occurrence=collection.round,
        )


def _told(failure: Failure) -> dict[str, object]:
    return {
        "stage": failure.stage,
        "gate": failure.gate,
        "kind": str(failure.kind),
        "owners": list(failure.owners),
        "error": failure.error.partition("\n")[0],
        "log": failure.log_reference,
    }


# --- going on -------------------------------------------------------------------------------


def resolve_failures(write: RequirementWrite) -> Update:
    """Every open failure of the requirement counts as resolved."""
    mine = (FailureRow.number == write.number) & FailureRow.resolved_at.is_(None)
    return update(FailureRow).where(mine).values(resolved_at=write.at)


def _resolve_answered(write: RequirementWrite, reopening: Reopening) -> Update:
    reopened = (*reopening.stages, *reopening.approved)
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


def _reopen_stage(write: RequirementWrite, stage: StageRecord, reopening: Reopening) -> None:
    lose(write, stage, f"Lost; reopened by {reopening.who}.")
    # Blocked in the workflow alone: its round has not been reported yet.
    if stage.state is not StageState.WAITING:
        write.move_stage(stage, StageState.WAITING, who=reopening.who, why=reopening.why)


async def _approve_stage(write: RequirementWrite, stage: StageRecord, reopening: Reopening) -> None:
    write.move_stage(stage, StageState.COMPLETED, who=reopening.who, why=reopening.why)
    write.tell(
        str(stage.run_id),
        EventType.STAGE_COMPLETED,
        {
            "stage": stage.stage,
            "agent": stage.agent,
            "attempt": stage.attempt,
            "summary": reopening.why,
            "commit": "",
            "approvedBy": reopening.who,
        },
    )
    await complete_group(write, stage)


def _resume(write: RequirementWrite, reopening: Reopening) -> None:
    write.move(RequirementState.RUNNING, who=reopening.who, why=reopening.why)
    write.set(reason="")
    write.update_all(_resolve_answered_blockers(write))
    write.tell(
        reopening.ref.key,
        EventType.WORKFLOW_RESUMED,
        {
            "round": write.row["round"],
            "stages": [*reopening.stages, *reopening.approved],
            "who": reopening.who,
            "why": reopening.why,
        },
        occurrence=reopening.occurrence,
    )
