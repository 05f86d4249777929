"""A run begins: it queues for a slot, opens at the P0 gate, its clone is prepared, it starts.

Or it is skipped. How a run ends: `run_ends`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.accounts import (
    account_reads,
    held_by_account,
    record_limit,
)
from adapters.sdlc.budgets import budget_reads, held_by_budget
from adapters.sdlc.context import LOCK_WITH_DESCRIPTION, STAGES_AND_NOTICES, load_context
from adapters.sdlc.holds import (
    free_of_account,
    gate_reads,
    held_at_gate,
    hold_back,
    let_go,
    record_outage,
)
from adapters.sdlc.run_ends import complete_group, lose
from adapters.sdlc.tables import HostRow, RunRow
from adapters.sdlc.transaction import STAGES, Read, RequirementWrite, StageRecord
from pipeline.accounts import Limit
from pipeline.budgets import NO_BUDGET, RunBudget
from pipeline.errors import IllegalTransition
from pipeline.events import EventType, timestamp
from pipeline.model import (
    Hold,
    Preparation,
    RequirementState,
    RunEnd,
    RunResult,
    SlotUsage,
    StageContext,
    StageRequest,
    StageSkip,
    StageState,
)

_GIVEN_UP = (StageState.WAITING, StageState.HELD)
"""Of a stage that has a run: the run was given up, and the stage was reopened."""
_STARTED = select(
    RunRow.started_at,
    RunRow.ended_at,
    RunRow.base_commit,
    RunRow.resumes,
    RunRow.host,
    RunRow.state,
    RunRow.end,
    RunRow.exit_code,
    RunRow.notice,
    RunRow.log_reference,
).where(RunRow.run_id == bindparam("run_id"))
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
        *_entry_reads(request, account),
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
        *_entry_reads(request, account),
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


def _entry_reads(request: StageRequest, account: str) -> tuple[Read, ...]:
    """What decides whether its run may start."""
    number = request.ref.number
    return (
        (_STARTED, {"run_id": request.run_id}),
        *gate_reads(number),
        *budget_reads(number),
        *account_reads(account),
    )


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
        stage.refuse_stale(request.attempt)
        lose(write, stage, f"Lost; attempt {request.attempt} takes its place.")
    if write.state not in _STARTABLE:
        raise IllegalTransition(
            f"{write.number} is {write.state}: {request.stage.name} cannot start."
        )
    started: dict[str, Any] = {}
    for row in await write.read(_STARTED, run_id=request.run_id):
        if row["started_at"]:
            has_moved = row["host"] != write.row["host"]
            started = {
                "started_at": row["started_at"],
                "base_commit": row["base_commit"] or "",
                "lost_on": row["host"] if has_moved else "",
                "lost_result": _recorded(row) if has_moved else None,
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


def _recorded(row: Mapping[str, Any]) -> RunResult | None:
    """The result of a run with an accepted answer that was closed before its host was lost."""
    if row["end"] is None or row["notice"] is None:
        return None
    is_done = row["state"] == StageState.COMPLETED  # a program's own word may outdo its exit code
    return RunResult(
        end=RunEnd.EXITED,
        exit_code=0 if is_done else row["exit_code"],
        output=f"```json\n{json.dumps(row['notice'])}\n```",
        error_output="",
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        starts=1,
        log_reference=row["log_reference"],
    )


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
    stage.refuse_stale(skip.attempt)
    if stage.state is StageState.HELD:
        write.update_all(free_of_account(write, stage.stage))
    if skip.again and stage.state.is_done:
        write.move_stage(stage, StageState.WAITING, why=skip.again)
    write.move_stage(stage, StageState.SKIPPED, why=skip.reason)
    stage.set(attempt=skip.attempt, run_id=run_id)
    fields = {"stage": stage.stage, "agent": stage.agent, "reason": skip.reason}
    write.tell(run_id, EventType.STAGE_SKIPPED, fields)
    await complete_group(write, stage)


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


async def start_run(
    connection: AsyncConnection,
    request: StageRequest,
    at: datetime,
    base_commit: str,
    session: str = "",
) -> None:
    """The agent was really started; a repeat, or a run that is over, changes nothing.

    Its program's session may become known later than its start.
    """
    is_open = (RunRow.run_id == request.run_id) & RunRow.closed_at.is_(None)
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


# --- its clone is prepared, apart from the agent's own time ---------------------------------------

_PREPARED = select(RunRow.prepared, RunRow.prepare_started_at, RunRow.prepare_ended_at).where(
    RunRow.run_id == bindparam("run_id")
)


async def start_preparing(
    connection: AsyncConnection, request: StageRequest, builds: Sequence[str]
) -> None:
    """The clone of an open run is being prepared; one that has come to its end is left alone.

    What a crash has cut off begins again, and is told once.
    """
    write, stage, row = await _open_run(connection, request)
    if row is None or row["prepare_ended_at"]:
        return
    started = {"prepared": list(builds), "prepare_started_at": write.at}
    write.update(RunRow, {"run_id": request.run_id}, **started)
    if row["prepare_started_at"] is None:
        fields = {**_names(stage), "builds": list(builds)}
        write.tell(request.run_id, EventType.STAGE_PREPARING, fields)
    await write.flush()


async def end_preparing(
    connection: AsyncConnection, request: StageRequest, preparation: Preparation | None
) -> None:
    """It has come to its end; None if that was found done. A repeat does nothing."""
    write, stage, row = await _open_run(connection, request)
    if row is None or row["prepare_ended_at"] or not row["prepare_started_at"]:
        return
    ended = preparation.result.ended_at if preparation else write.at
    write.update(RunRow, {"run_id": request.run_id}, prepare_ended_at=ended)
    took = max(ended - row["prepare_started_at"], timedelta())
    fields = {
        **_names(stage),
        "builds": row["prepared"],
        "passed": preparation is None or preparation.is_green,
        "duration": took // timedelta(milliseconds=1),
    }
    write.tell(request.run_id, EventType.STAGE_PREPARED, fields)
    await write.flush()


def _names(stage: StageRecord) -> dict[str, object]:
    return {"stage": stage.stage, "agent": stage.agent, "attempt": stage.attempt}


async def _open_run(
    connection: AsyncConnection, request: StageRequest
) -> tuple[RequirementWrite, StageRecord, Any]:
    """What is known of the preparation of the run; None instead of it if the run is not open."""
    write = await RequirementWrite.lock(connection, request.ref.number)
    await write.load_stages()
    stage = write.stage(request.stage.name)
    rows = await write.read(_PREPARED, run_id=request.run_id)
    is_open = stage.run_id == request.run_id and stage.state is StageState.RUNNING
    return write, stage, rows[0] if is_open and rows else None
