"""A stage's transactions: its run opens or is skipped, and closes.

A run's row is opened at the P0 gate and closed with everything that follows from its end: gates,
cost, deliverable, events, and its group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.accounts import (
    account_reads,
    end_trial,
    held_by_account,
    record_limit,
    trial_reads,
)
from adapters.sdlc.budgets import budget_reads, count_in_budgets, held_by_budget
from adapters.sdlc.context import LOCK_WITH_DESCRIPTION, STAGES_AND_NOTICES, load_context
from adapters.sdlc.costs import cost_columns, cost_fields, cost_of, cost_of_row
from adapters.sdlc.gates import add_gates, mode_of
from adapters.sdlc.holds import (
    free_of_account,
    gate_reads,
    held_at_gate,
    hold_back,
    let_go,
    lock_rows,
    record_outage,
)
from adapters.sdlc.tables import CostRow, HostRow, RunRow
from adapters.sdlc.transaction import STAGES, RequirementWrite, StageRecord
from pipeline.accounts import Limit
from pipeline.budgets import NO_BUDGET, RunBudget
from pipeline.errors import IllegalTransition, StaleAttempt
from pipeline.events import EventType, deliverable, timestamp
from pipeline.model import (
    NO_COST,
    ClosedRun,
    Cost,
    FailureKind,
    Hold,
    MergeResult,
    RequirementState,
    RunEnd,
    RunResult,
    Severity,
    SlotUsage,
    StageContext,
    StageOutcome,
    StageRequest,
    StageSkip,
    StageState,
)
from pipeline.notice import Notice

_GIVEN_UP = (StageState.WAITING, StageState.HELD)
"""Of a stage that has a run: the run was given up, and the stage was reopened."""
_STARTED = select(RunRow.started_at, RunRow.base_commit, RunRow.resumes).where(
    RunRow.run_id == bindparam("run_id")
)
# Blocked, it still makes gates again: a fix is only as good as what says so.
_STARTABLE = (RequirementState.RUNNING, RequirementState.HELD, RequirementState.BLOCKED)


async def open_stage(
    connection: AsyncConnection,
    request: StageRequest,
    subscriber: str,
    account: str = "",
    resume: int = 0,
    run: RunBudget = NO_BUDGET,
) -> StageContext | Hold:
    """Open the run's row unless it is held; a repeat opens it once and passes the gate again.

    It is asked with a slot in hand, and never for a run that was started, unless its session is to
    be resumed for the `resume`-th time: a row that is open and has to be held is one that a crash
    has kept from its start. `subscriber` is the workflow to notify if it is held, `account` that of
    the agent's program, if it has one, and `run` what the run may cost.

    Raises: StaleAttempt if a newer attempt is current, IllegalTransition if the requirement or
        the stage cannot start anything now, UnknownRequirement.
    """
    number = request.ref.number
    write = await RequirementWrite.lock(
        connection,
        number,
        (STAGES_AND_NOTICES, {"number": number}),
        (_STARTED, {"run_id": request.run_id}),
        *gate_reads(number),
        *budget_reads(number),
        *account_reads(account),
        statement=LOCK_WITH_DESCRIPTION,
    )
    context = await load_context(write, request)
    entry = Entry(subscriber, account, resume, run, has_slot=True)
    passed = await _pass(write, request, entry)
    if not passed.hold:
        _open(write, passed.stage, request, resume, passed.most_usd)
        if resume:
            await _tell_resumed(write, passed.stage, resume)
    await write.flush()
    return passed.hold or replace(context, most_usd=passed.most_usd, **passed.started)


async def resume_stage(connection: AsyncConnection, request: StageRequest) -> None:
    """Take up again a run that was started and given up since infrastructure failed.

    Nothing starts, so nothing holds it. A repeat does nothing; what is wrong is said at its end.
    """
    write = await RequirementWrite.lock(connection, request.ref.number)
    await write.load_stages()
    stage = write.stage(request.stage.name)
    if stage.run_id == request.run_id and stage.state in _GIVEN_UP:
        _open(write, stage, request, 0, None)
        await write.flush()


async def queue_stage(
    connection: AsyncConnection,
    request: StageRequest,
    subscriber: str,
    account: str = "",
    resume: int = 0,
    run: RunBudget = NO_BUDGET,
) -> Hold | None:
    """Say that the stage waits for a slot of its host, unless it is held; a repeat says it again.

    Raises: as `open_stage`.
    """
    number = request.ref.number
    write = await RequirementWrite.lock(
        connection,
        number,
        (STAGES, {"number": number}),
        (_STARTED, {"run_id": request.run_id}),
        *gate_reads(number),
        *budget_reads(number),
        *account_reads(account),
    )
    await write.load_stages()
    entry = Entry(subscriber, account, resume, run, has_slot=False)
    passed = await _pass(write, request, entry)
    stage = passed.stage
    if not passed.hold:
        if stage.state is StageState.HELD:
            write.move_stage(stage, StageState.WAITING, why="It waits for a slot.")
        since = request.waits_since or write.at
        stage.set(queued_at=since, remaining_minutes=request.remaining_minutes)
    await write.flush()
    return passed.hold


@dataclass(frozen=True)
class Passed:
    """A stage that would start: what is known of its run's start, and what holds it.

    The run may cost `most_usd`, if anything says so.
    """

    stage: StageRecord
    started: Mapping[str, Any]
    hold: Hold | None = None
    most_usd: float | None = None


@dataclass(frozen=True)
class Entry:
    """Who asks to start a run, or to resume its session; see `open_stage`."""

    subscriber: str
    account: str
    resume: int
    run: RunBudget
    has_slot: bool


async def _pass(write: RequirementWrite, request: StageRequest, entry: Entry) -> Passed:
    """Pass the P0 gate, the budgets and the account, or be held.

    What was started once is found again, though its records are gone: nothing holds it. Its session
    is resumed as if it were started.
    """
    subscriber = entry.subscriber
    stage = write.stage(request.stage.name)
    if stage.run_id != request.run_id:
        refuse_stale(stage, request.attempt)
        lose(write, stage, f"Lost; attempt {request.attempt} takes its place.")
    if write.state not in _STARTABLE:
        raise IllegalTransition(
            f"{write.number} is {write.state}: {request.stage.name} cannot start."
        )
    started = {
        name: value
        for row in await write.read(_STARTED, run_id=request.run_id)
        for name, value in row.items()
        if row["started_at"] and value and name != "resumes"
    }
    if started and not entry.resume:
        if request.held:
            await record_outage(write, request.held, subscriber)
        return Passed(stage, started)
    hold, most_usd = await held_at_gate(write, stage.stage, subscriber, request.held), None
    if not hold:  # nobody is asked for money while a P0 is open
        hold, most_usd = await held_by_budget(
            write, stage.stage, request.run_id, entry.run, has_slot=entry.has_slot
        )
    limited = await held_by_account(
        write, stage.stage, request.run_id, entry.account, may_try=entry.has_slot and not hold
    )
    if hold := _both(hold, limited):
        hold = await hold_back(write, hold, subscriber)
        _hold(write, stage, hold, has_started=entry.resume > 0)
    else:
        await let_go(write, subscriber, boundary=stage.stage)
    return Passed(stage, {} if entry.resume else started, hold, most_usd)


def _both(hold: Hold | None, limited: Hold | None) -> Hold | None:
    """What the P0 gate or a budget, and the account hold, as one hold."""
    if not (hold and limited):
        return hold or limited
    reason = f"{hold.reason} {limited.reason}"
    until = min(filter(None, (hold.until, limited.until)), default=None)
    by = (*hold.by, *limited.by)
    return replace(limited, by=by, reason=reason, until=until, budget=hold.budget)


async def skip_stages(connection: AsyncConnection, skips: Sequence[StageSkip]) -> None:
    """Record that conditional stages of one requirement were not needed; a repeat does nothing.

    Raises: StaleAttempt, IllegalTransition.
    """
    number = skips[0].ref.number
    write = await RequirementWrite.lock(connection, number, (STAGES, {"number": number}))
    await write.load_stages()
    for skip in skips:
        await _skip(write, skip)
    await write.flush()


async def _skip(write: RequirementWrite, skip: StageSkip) -> None:
    stage = write.stage(skip.stage.name)
    run_id = f"{skip.ref.key}/{skip.stage.name}/{skip.attempt}"
    if stage.run_id == run_id:
        return
    refuse_stale(stage, skip.attempt)
    if stage.state is StageState.HELD:
        write.update_all(free_of_account(write, stage.stage))
    if skip.again and stage.state.is_done:
        write.move_stage(stage, StageState.WAITING, why=skip.again)
    write.move_stage(stage, StageState.SKIPPED, why=skip.reason)
    stage.set(attempt=skip.attempt, run_id=run_id)
    fields = {"stage": stage.stage, "agent": stage.agent, "reason": skip.reason}
    write.tell(run_id, EventType.STAGE_SKIPPED, fields)
    await complete_group(write, stage)


def refuse_stale(stage: StageRecord, attempt: int) -> None:
    """Raises: StaleAttempt if a newer attempt of the stage is current."""
    if stage.attempt > attempt:
        raise StaleAttempt(
            f"{stage.number}: {stage.stage} is at attempt {stage.attempt}, not {attempt}."
        )


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


def _hold(write: RequirementWrite, stage: StageRecord, hold: Hold, *, has_started: bool) -> None:
    if stage.state is StageState.HELD:
        return
    if stage.state is StageState.RUNNING:  # cut off, or a crash came between its row and its start
        write.update(RunRow, {"run_id": stage.run_id}, state=StageState.HELD)
        if not has_started:
            stage.set(started_at=None)
    elif stage.state is not StageState.WAITING:
        write.move_stage(stage, StageState.WAITING, why="It is to run again.")
    write.move_stage(stage, StageState.HELD, why=hold.reason)


def _open(
    write: RequirementWrite,
    stage: StageRecord,
    request: StageRequest,
    resume: int,
    most_usd: float | None,
) -> None:
    if stage.run_id == request.run_id:  # a closed one stays as it was closed
        changes: dict[str, object] = {"resumes": resume} if resume else {}
        if most_usd is not None and (resume or stage.state in _GIVEN_UP):
            changes["reserved_usd"] = most_usd
        if stage.state in _GIVEN_UP:
            write.move_stage(stage, StageState.RUNNING)
            began = stage.started_at or write.at
            stage.set(resumed=stage.resumed + 1, started_at=began, ended_at=None)
            changes |= {"state": StageState.RUNNING, "closed_at": None, "error": ""}
        elif stage.queued_at:
            stage.set(queued_at=None)
        if changes:
            write.update(RunRow, {"run_id": request.run_id}, **changes)
        return
    if request.again and (stage.state.is_done or stage.state is StageState.BLOCKED):
        write.move_stage(stage, StageState.WAITING, why=request.again)
    write.move_stage(stage, StageState.RUNNING)
    stage.set(
        attempt=request.attempt,
        run_id=request.run_id,
        resumed=0,
        started_at=write.at,
        ended_at=None,
    )
    write.insert(
        RunRow,
        run_id=request.run_id,
        stage=stage.stage,
        agent=stage.agent,
        attempt=request.attempt,
        state=StageState.RUNNING,
        opened_at=write.at,
        host=write.row["host"],
        reserved_usd=most_usd,
    )
    write.tell(
        request.run_id,
        EventType.STAGE_STARTED,
        {
            "stage": stage.stage,
            "agent": stage.agent,
            "attempt": request.attempt,
            "group": stage.group,
            "timeout": request.stage.deadline // timedelta(milliseconds=1),
        },
    )


async def _tell_resumed(write: RequirementWrite, stage: StageRecord, resume: int) -> None:
    """The run's session goes on; a repeat says nothing."""
    rows = await write.read(_STARTED, run_id=str(stage.run_id))
    if any(row["resumes"] >= resume for row in rows):
        return
    fields = {"stage": stage.stage, "agent": stage.agent, "resumes": resume}
    write.tell(str(stage.run_id), EventType.STAGE_RESUMED, fields, occurrence=resume)


async def limit_account(connection: AsyncConnection, request: StageRequest, limit: Limit) -> bool:
    """The run was cut off by a limit of its account, perhaps not for the first time; it stays open.

    Returns whether somebody may be held by it already, and has to look again. A repeat says nothing
    new.
    """
    write = await RequirementWrite.lock(connection, request.ref.number)
    scope = f"{request.run_id}/{timestamp(write.at)}"
    are_held = await record_limit(write, request.run_id, limit, scope)
    await write.flush()
    return are_held


# --- a run closes ---------------------------------------------------------------------------------

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
    refuse_stale(stage, request.attempt)
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


# --- what a host reports apart from its stages ----------------------------------------------------


async def start_run(
    connection: AsyncConnection, run_id: str, at: datetime, base_commit: str, session: str = ""
) -> None:
    """The agent was really started; a repeat, or a run that is over, changes nothing.

    Its program's session may become known later than its start.
    """
    is_open = (RunRow.run_id == run_id) & RunRow.closed_at.is_(None)
    started = {"starts": 1, "started_at": at, "base_commit": base_commit or None}
    await connection.execute(update(RunRow).where(is_open, RunRow.starts == 0).values(started))
    if session:
        is_unknown = RunRow.session == ""
        await connection.execute(update(RunRow).where(is_open, is_unknown).values(session=session))


async def record_usage(connection: AsyncConnection, host: str, usage: SlotUsage) -> None:
    """How many slots of a host are used, for those who wait for one."""
    values = {**asdict(usage), "updated_at": datetime.now(UTC)}
    row = insert(HostRow).values(host=host, **values)
    await connection.execute(row.on_conflict_do_update(index_elements=["host"], set_=values))


async def record_ends(
    connection: AsyncConnection, number: str, results: Mapping[str, RunResult]
) -> None:
    """How runs ended that no stage has closed, and what they cost; a repeat changes nothing."""
    if results:  # a stage that closes one of them at this moment locks the requirement first, too
        await lock_rows(connection, {number})
    for run_id, result in results.items():
        agent = await _end(connection, run_id, result)
        if agent is not None:
            cost = await cost_of(connection, run_id, result)
            at, columns = result.ended_at or datetime.now(UTC), cost_columns(result, cost)
            row = insert(CostRow).values(
                run_id=run_id, number=number, agent=agent, at=at, **columns
            )
            await connection.execute(row.on_conflict_do_nothing())


async def _end(connection: AsyncConnection, run_id: str, result: RunResult) -> str | None:
    """The agent of the run; None if its end is known or it was never opened."""
    is_unended = (RunRow.run_id == run_id) & RunRow.end.is_(None)
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
