"""A run ends: its row is closed with everything that follows from its end.

Gates, cost, deliverable, events, and its group; so is a run that nobody saw end. How a run begins:
`run_starts`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.accounts import (
    end_trial,
    record_limit,
    trial_reads,
)
from adapters.sdlc.budgets import budget_reads, count_in_budgets
from adapters.sdlc.costs import cost_columns, cost_fields, cost_of, cost_of_row
from adapters.sdlc.gates import add_gates, mode_of
from adapters.sdlc.tables import CostRow, RunRow
from adapters.sdlc.transaction import STAGES, RequirementWrite, StageRecord, lock_rows
from pipeline.accounts import Limit
from pipeline.errors import StaleAttempt
from pipeline.events import EventType, deliverable
from pipeline.model import (
    NO_COST,
    ClosedRun,
    Cost,
    FailureKind,
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
    cost: Cost

    @property
    def error(self) -> str:
        """Why it is red; empty where it is not."""
        return self.outcome.failure.error if self.outcome.failure else ""

    @property
    def is_limited(self) -> bool:
        """Whether its account could not work: no error of the run, that a later one is told of."""
        failure = self.outcome.failure
        return failure is not None and failure.kind is FailureKind.LIMITED

    @property
    def is_repeated(self) -> bool:
        """Whether another attempt follows at once."""
        failure = self.outcome.failure
        return failure is not None and failure.kind in self.request.repeated_after


async def close_stage(
    connection: AsyncConnection,
    request: StageRequest,
    outcome: StageOutcome,
    result: RunResult,
    notice: Notice | None,
    merge: MergeResult | None,
    limit: Limit | None = None,
) -> ClosedRun:
    """Close the run's row and everything that follows from it; a repeat does nothing.

    `limit` is what it has told of its account. Somebody may have to be notified if the account can
    work again, or waits for something else, or if a budget has room again.

    Raises: StaleAttempt, IllegalTransition, UnknownRequirement.
    """
    number = request.ref.number
    reads = (*trial_reads(request.run_id), *budget_reads(number))
    write = await RequirementWrite.lock(connection, number, (STAGES, {"number": number}), *reads)
    await write.load_stages()
    stage = write.stage(request.stage.name)
    if stage.run_id != request.run_id or stage.state is not StageState.RUNNING:
        await _check_repeat(write, stage, request)
        return ClosedRun(may_notify=True, cost=await _charged(write, request.run_id))
    cost = await cost_of(connection, request.run_id, result)
    ended = EndedRun(request, outcome, result, notice, merge, cost)
    may_have_room = await count_in_budgets(write, request.run_id, cost)
    if limit:
        are_held = await record_limit(write, request.run_id, limit)
    else:
        are_held = await end_trial(write, request.run_id, result.end)
    _close_run(write, ended)
    _close_stage(write, stage, ended)
    if result.end is not RunEnd.HOST_LOST:  # its host knows what it cost, and tells if it is back
        _charge(write, ended)
    add_gates(write, ended.request, ended.outcome, ended.result, ended.notice, ended.merge)
    _tell(write, stage, ended)
    if ended.outcome.state.is_done:
        await complete_group(write, stage)
    await write.flush()
    return ClosedRun(may_notify=are_held or may_have_room, cost=cost)


async def _charged(write: RequirementWrite, run_id: str) -> Cost:
    """What the run's row says that it cost."""
    query = select(*CostRow.__table__.columns).where(CostRow.run_id == run_id)
    row = (await write.connection.execute(query)).mappings().first()
    return cost_of_row(dict(row)) if row else NO_COST


async def _check_repeat(write: RequirementWrite, stage: StageRecord, request: StageRequest) -> None:
    """A run that was closed stays as it is; one that was given up as lost stays lost."""
    query = select(RunRow.end).where(RunRow.run_id == request.run_id)
    if (await write.connection.execute(query)).scalar() is not None:
        return
    stage.refuse_stale(request.attempt)
    raise StaleAttempt(f"{request.run_id} is not open.")


def _close_run(write: RequirementWrite, ended: EndedRun) -> None:
    outcome, result, notice, merge = ended.outcome, ended.result, ended.notice, ended.merge
    write.update(
        RunRow,
        {"run_id": ended.request.run_id},
        state=outcome.state,
        starts=result.starts,
        resumes=result.resumes,
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
        remarks=[ended.error] if ended.is_limited else list(merge.remarks) if merge else [],
        error="" if ended.is_limited else ended.error,
        base_commit=ended.request.head.commit if ended.request.head else None,
        commit=merge.commit if merge else None,
        head_commit=outcome.head.commit if outcome.head else None,
        log_reference=result.log_reference,
        **_told(result),
    )


def _told(result: RunResult) -> dict[str, Any]:
    """What the program tells of the run itself; as the columns stand where it tells nothing."""
    report = result.report
    if report is None:
        return {"session": "", "ending": "", "asked_again": 0}
    told = {"session": report.session, "ending": str(report.ending)}
    return {**told, "asked_again": report.asked_again}


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
    write.ensure(  # of a run that was ended before its stage closes, the clean-up has written it
        CostRow,
        run_id=ended.request.run_id,
        agent=ended.request.stage.agent,
        at=ended.result.ended_at or write.at,
        **cost_columns(ended.result, ended.cost),
    )


def _tell(write: RequirementWrite, stage: StageRecord, ended: EndedRun) -> None:
    run_id, number, at = ended.request.run_id, write.number, write.at
    if ended.notice:
        write.emit(deliverable(run_id, ended.request.stage.member, number, at, ended.notice.raw))
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
    costs = cost_fields(ended.cost)
    if outcome.state is StageState.FAILED:
        action = "RETRY" if ended.is_repeated else "BLOCKED"
        return {"error": ended.error, "action": action, **costs}
    if outcome.state is StageState.BLOCKED:
        return {"reason": ended.error, "blockers": [], **costs}
    return {
        "attempt": outcome.attempt,
        "starts": ended.result.starts,
        "resumes": ended.result.resumes,
        "summary": outcome.summary,
        "commit": outcome.head.commit if outcome.head else "",
        **costs,
    }


# --- runs that no stage closes --------------------------------------------------------------------


def lose(write: RequirementWrite, stage: StageRecord, reason: str) -> None:
    """Record a run that nobody closed: its host was lost, or it was cancelled."""
    if stage.state is not StageState.RUNNING or stage.run_id is None:
        return
    write.move_stage(stage, StageState.FAILED, why=reason)
    stage.set(ended_at=write.at)
    write.update(
        RunRow,
        {"run_id": stage.run_id},
        state=StageState.FAILED,
        closed_at=write.at,
        error=reason,
    )
    fields = {"stage": stage.stage, "agent": stage.agent, "error": reason, "action": "BLOCKED"}
    write.tell(stage.run_id, EventType.STAGE_FAILED, fields, occurrence=1 + stage.resumed)


async def record_ends(
    connection: AsyncConnection, number: str, results: Mapping[str, RunResult], host: str = ""
) -> None:
    """How runs ended that no stage has closed, and what they cost; a repeat changes nothing.

    With a host, of its own runs: one that has moved may run elsewhere under the same id.
    """
    if results:  # a stage that closes one of them at this moment locks the requirement first, too
        await lock_rows(connection, {number})
    for run_id, result in results.items():
        agent = await _end(connection, run_id, result, host)
        if agent is not None:
            cost = await cost_of(connection, run_id, result)
            at, columns = result.ended_at or datetime.now(UTC), cost_columns(result, cost)
            row = insert(CostRow).values(
                run_id=run_id, number=number, agent=agent, at=at, **columns
            )
            await connection.execute(row.on_conflict_do_nothing())


async def _end(
    connection: AsyncConnection, run_id: str, result: RunResult, host: str
) -> str | None:
    """The agent of the run; None if its end is known or it was never opened."""
    is_it = RunRow.run_id == run_id
    if host:
        is_it &= RunRow.host == host
    lost = select(RunRow.agent).where(is_it, RunRow.end == str(RunEnd.HOST_LOST))
    if agent := (await connection.execute(lost)).scalar_one_or_none():
        return str(agent)  # how it ended is recorded, what it cost is not
    is_unended = is_it & RunRow.end.is_(None)
    ended = (
        update(RunRow)
        .where(is_unended)
        .values(
            starts=result.starts,
            resumes=result.resumes,
            started_at=result.started_at,
            ended_at=result.ended_at,
            suspensions=list(result.suspensions),
            end=str(result.end),
            exit_code=result.exit_code,
            log_reference=result.log_reference,
            **_told(result),
        )
        .returning(RunRow.agent)
    )
    return (await connection.execute(ended)).scalar_one_or_none()


# --- a group is complete when its last stage is ---------------------------------------------------


_SPAN = select(func.min(RunRow.started_at), func.max(RunRow.ended_at)).where(
    RunRow.number == bindparam("number"), RunRow.stage.in_(bindparam("stages", expanding=True))
)


async def complete_group(write: RequirementWrite, stage: StageRecord) -> None:
    """Say `group.completed` if this stage, just moved, was the last one of its group to be done.

    The requirement's row is locked, so of two stages that end at once the second sees the first.
    """
    group = [record for record in write.stages.values() if record.group == stage.group]
    if not all(record.state.is_done for record in group):
        return
    completed = [record for record in group if record.state is StageState.COMPLETED]
    write.tell(
        str(stage.run_id),
        EventType.GROUP_COMPLETED,
        {
            "group": stage.group,
            "duration": await _duration(write, completed) // timedelta(milliseconds=1),
            "stagesCompleted": len(completed),
        },
    )


async def _duration(write: RequirementWrite, completed: list[StageRecord]) -> timedelta:
    """From the group's first start, earlier attempts included, to its last end."""
    if not completed:
        return timedelta()
    first, last = await _earlier_attempts(write, completed)
    starts = _known(first, *(record.started_at for record in completed))
    ends = _known(last, *(record.ended_at for record in completed))
    return max(timedelta(), max(ends) - min(starts)) if starts and ends else timedelta()


async def _earlier_attempts(
    write: RequirementWrite, completed: list[StageRecord]
) -> tuple[datetime | None, datetime | None]:
    """Their first start and last end, if there were any."""
    repeated = [record.stage for record in completed if record.attempt > 1]
    if not repeated:
        return None, None
    key = {"number": write.number, "stages": repeated}
    first, last = (await write.connection.execute(_SPAN, key)).one()
    return first, last


def _known(*times: datetime | None) -> list[datetime]:
    return [time for time in times if time is not None]
