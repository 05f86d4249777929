"""A run ends: its row, its gates, its cost, its deliverable, its events, and its group."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.gates import add_gates, mode_of
from adapters.sdlc.groups import complete_group
from adapters.sdlc.stages import refuse_stale
from adapters.sdlc.writing import STAGES, RequirementWrite, StageRecord
from adapters.sdlc_tables import CostRow, RunRow
from pipeline.errors import StaleAttempt
from pipeline.events import EventType, deliverable
from pipeline.model import (
    MergeResult,
    RunEnd,
    RunResult,
    Severity,
    StageOutcome,
    StageRequest,
    StageState,
)
from pipeline.notice import Notice

_EVENTS = {
    StageState.COMPLETED: EventType.STAGE_COMPLETED,
    StageState.FAILED: EventType.STAGE_FAILED,
    StageState.BLOCKED: EventType.STAGE_BLOCKED,
}


@dataclass(frozen=True)
class EndedRun:
    """Everything that is known when a run ends."""

    request: StageRequest
    outcome: StageOutcome
    result: RunResult
    notice: Notice | None
    merge: MergeResult | None

    @property
    def error(self) -> str:
        """Why it is red; empty where it is not."""
        return self.outcome.failure.error if self.outcome.failure else ""

    @property
    def is_repeated(self) -> bool:
        """Whether another attempt follows at once."""
        failure = self.outcome.failure
        return failure is not None and failure.kind in self.request.repeated_after


async def close_stage(connection: AsyncConnection, ended: EndedRun) -> None:
    """Close the run's row and everything that follows from it; a repeat does nothing.

    Raises: StaleAttempt, IllegalTransition, UnknownRequirement.
    """
    number = ended.request.ref.number
    write = await RequirementWrite.lock(connection, number, (STAGES, {"number": number}))
    await write.load_stages()
    stage = write.stage(ended.request.stage.name)
    if stage.run_id != ended.request.run_id or stage.state is not StageState.RUNNING:
        await _check_repeat(write, stage, ended.request)
        return
    _close_run(write, ended)
    _close_stage(write, stage, ended)
    _charge(write, ended)
    add_gates(write, ended.request, ended.outcome, ended.result, ended.notice, ended.merge)
    _tell(write, stage, ended)
    if ended.outcome.state.is_done:
        await complete_group(write, stage)
    await write.flush()


async def _check_repeat(write: RequirementWrite, stage: StageRecord, request: StageRequest) -> None:
    """A run that was closed stays as it is; one that was given up as lost stays lost."""
    query = select(RunRow.end).where(RunRow.run_id == request.run_id)
    if (await write.connection.execute(query)).scalar() is not None:
        return
    refuse_stale(stage, request.attempt)
    raise StaleAttempt(f"{request.run_id} is not open.")


def _close_run(write: RequirementWrite, ended: EndedRun) -> None:
    outcome, result, notice, merge = ended.outcome, ended.result, ended.notice, ended.merge
    write.update(
        RunRow,
        {"run_id": ended.request.run_id},
        state=outcome.state,
        starts=result.starts,
        started_at=result.started_at,
        ended_at=result.ended_at,
        suspensions=list(result.suspensions),
        closed_at=write.at,
        end=result.end,
        exit_code=result.exit_code,
        verdict=outcome.verdict,
        notice=dict(notice.raw) if notice else None,
        required_fixes=list(notice.required_fixes) if notice else [],
        summary=outcome.summary,
        remarks=list(merge.remarks) if merge else [],
        error=ended.error,
        base_commit=ended.request.head.commit if ended.request.head else None,
        commit=merge.commit if merge else None,
        head_commit=outcome.head.commit if outcome.head else None,
        log_reference=result.log_reference,
    )


def _close_stage(write: RequirementWrite, stage: StageRecord, ended: EndedRun) -> None:
    write.move_stage(stage, ended.outcome.state, why=ended.error)
    stage.set(
        started_at=ended.result.started_at or stage.started_at,
        ended_at=ended.result.ended_at or write.at,
    )
    write.set(mode=mode_of(write, parallel=ended.outcome.parallel))
    if ended.outcome.head:
        write.set(head_commit=ended.outcome.head.commit)


def _charge(write: RequirementWrite, ended: EndedRun) -> None:
    write.insert(
        CostRow,
        run_id=ended.request.run_id,
        agent=ended.request.stage.agent,
        seconds=ended.result.elapsed.total_seconds(),
    )


def _tell(write: RequirementWrite, stage: StageRecord, ended: EndedRun) -> None:
    run_id, number, at = ended.request.run_id, write.number, write.at
    if ended.notice:
        write.emit(deliverable(run_id, stage.agent, number, at, ended.notice.raw))
    if ended.result.end is RunEnd.TIMED_OUT:
        write.tell(
            run_id,
            EventType.STAGE_TIMEOUT,
            {
                "stage": stage.stage,
                "agent": stage.agent,
                "elapsedMs": ended.result.elapsed // timedelta(milliseconds=1),
                "severity": _severity(ended).name,
            },
        )
    fields = {"stage": stage.stage, "agent": stage.agent, **_end_fields(ended)}
    write.tell(run_id, _EVENTS[ended.outcome.state], fields, occurrence=1 + stage.resumed)


def _severity(ended: EndedRun) -> Severity:
    return ended.outcome.failure.severity if ended.outcome.failure else Severity.ERROR


def _end_fields(ended: EndedRun) -> dict[str, object]:
    outcome = ended.outcome
    if outcome.state is StageState.FAILED:
        return {"error": ended.error, "action": "RETRY" if ended.is_repeated else "BLOCKED"}
    if outcome.state is StageState.BLOCKED:
        return {"reason": ended.error, "blockers": []}
    return {
        "attempt": outcome.attempt,
        "summary": outcome.summary,
        "commit": outcome.head.commit if outcome.head else "",
    }
