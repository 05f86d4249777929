"""A requirement stands still: its failures, and who sees to them."""

from collections.abc import Iterator

from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.answers import close_escalations
from adapters.sdlc.escalating import SUPERSEDED, escalate
from adapters.sdlc.holding import end_boundary_holds
from adapters.sdlc.resuming import resolve_failures
from adapters.sdlc.stages import lose
from adapters.sdlc.writing import RequirementWrite, StageRecord
from adapters.sdlc_tables import BlockerRow, FailureRow
from pipeline.events import EventType
from pipeline.model import (
    HUMAN,
    ORCHESTRATOR,
    Failure,
    FailureCollection,
    FailureReport,
    RequirementState,
    StageState,
)
from pipeline.team import TEAM, Role

_NOT_STARTED = (StageState.WAITING, StageState.HELD)


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
    if write.state is RequirementState.ACCEPTED:  # its opening has failed
        write.move(RequirementState.HELD, why=reason)
    if write.state is not RequirementState.BLOCKED:  # a fix may have left it red
        write.move(RequirementState.BLOCKED, why=reason)
        write.update_all(end_boundary_holds(write))
    write.set(round=collection.round, reason=reason, waiting_for=collection.waiting_for)
    _tell_deployed(write, collection, reason)
    _tell(write, collection, report)
    if HUMAN in collection.waiting_for:
        _await_human(write, collection, reason)
    if collection.escalation:
        write.update_all(close_escalations(write, SUPERSEDED, ORCHESTRATOR, ""))
        escalate(write, collection.ref, collection.round, collection.escalation)
    await write.flush()


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
        if stage.state in _NOT_STARTED and stage.stage in reasons:
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
