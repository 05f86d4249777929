"""A stage begins, or turns out not to be needed."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.context import LOCK_WITH_DESCRIPTION, load_context
from adapters.sdlc.groups import complete_group
from adapters.sdlc.holding import record_outage
from adapters.sdlc.line import gate_reads, pass_line
from adapters.sdlc.upstream import STAGES_AND_NOTICES
from adapters.sdlc.writing import STAGES, RequirementWrite, StageRecord
from adapters.sdlc_tables import RunRow
from pipeline.errors import IllegalTransition, StaleAttempt
from pipeline.events import EventType
from pipeline.model import (
    Hold,
    RequirementState,
    StageContext,
    StageRequest,
    StageSkip,
    StageState,
)

_GIVEN_UP = (StageState.WAITING, StageState.HELD)
"""Of a stage that has a run: the run was given up, and the stage was reopened."""
_STARTED = select(RunRow.started_at, RunRow.base_commit).where(RunRow.run_id == bindparam("run_id"))
# Blocked, it still makes gates again: a fix is only as good as what says so.
_STARTABLE = (RequirementState.RUNNING, RequirementState.HELD, RequirementState.BLOCKED)


async def open_stage(
    connection: AsyncConnection, request: StageRequest, waiter: str
) -> StageContext | Hold:
    """Open the run's row unless it is held; a repeat opens it once and passes the gate again.

    It is asked with a slot in hand, and never for a run that was started: a row that is open and
    has to be held is one that a crash has kept from its start. `waiter` is the workflow that waits
    if it is held.

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
        statement=LOCK_WITH_DESCRIPTION,
    )
    context = await load_context(write, request)
    stage, started, hold = await _pass(write, request, waiter)
    if not hold:
        _open(write, stage, request)
    await write.flush()
    return hold or replace(context, **started)


async def resume_stage(connection: AsyncConnection, request: StageRequest) -> None:
    """Take up again a run that was started and given up since infrastructure failed.

    Nothing starts, so nothing holds it. A repeat does nothing; what is wrong is said at its end.
    """
    write = await RequirementWrite.lock(connection, request.ref.number)
    await write.load_stages()
    stage = write.stage(request.stage.name)
    if stage.run_id == request.run_id and stage.state in _GIVEN_UP:
        _open(write, stage, request)
        await write.flush()


async def queue_stage(
    connection: AsyncConnection, request: StageRequest, waiter: str
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
    )
    await write.load_stages()
    stage, _, hold = await _pass(write, request, waiter)
    if not hold:
        if stage.state is StageState.HELD:
            write.move_stage(stage, StageState.WAITING, why="It waits for a slot.")
        since = request.waits_since or write.at
        stage.set(queued_at=since, remaining_minutes=request.remaining_minutes)
    await write.flush()
    return hold


async def _pass(
    write: RequirementWrite, request: StageRequest, waiter: str
) -> tuple[StageRecord, dict[str, Any], Hold | None]:
    """The stage, what is known of its run's start, and what holds it at the P0 gate.

    What was started once is found again, though its records are gone: nothing holds it.
    """
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
        if row["started_at"] and value
    }
    if started:
        if request.held:
            await record_outage(write, request.held, waiter)
        return stage, started, None
    hold = await pass_line(write, stage.stage, waiter, request.held)
    if hold:
        _hold(write, stage, hold)
    return stage, started, hold


async def skip_stage(connection: AsyncConnection, skip: StageSkip) -> None:
    """Record that a conditional stage was not needed. Raises: StaleAttempt, IllegalTransition."""
    write = await RequirementWrite.lock(connection, skip.ref.number)
    await write.load_stages()
    stage = write.stage(skip.stage.name)
    run_id = f"{skip.ref.key}/{skip.stage.name}/{skip.attempt}"
    if stage.run_id == run_id:
        return
    refuse_stale(stage, skip.attempt)
    if skip.again and stage.state.is_done:
        write.move_stage(stage, StageState.WAITING, why=skip.again)
    write.move_stage(stage, StageState.SKIPPED, why=skip.reason)
    stage.set(attempt=skip.attempt, run_id=run_id)
    fields = {"stage": stage.stage, "agent": stage.agent, "reason": skip.reason}
    write.tell(run_id, EventType.STAGE_SKIPPED, fields)
    await complete_group(write, stage)
    await write.flush()


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


def _hold(write: RequirementWrite, stage: StageRecord, hold: Hold) -> None:
    if stage.state is StageState.HELD:
        return
    if stage.state is StageState.RUNNING:  # a crash came between its row and its start
        write.update(RunRow, {"run_id": stage.run_id}, state=StageState.HELD)
        stage.set(started_at=None)
    elif stage.state is not StageState.WAITING:
        write.move_stage(stage, StageState.WAITING, why="It is to run again.")
    write.move_stage(stage, StageState.HELD, why=hold.reason)


def _open(write: RequirementWrite, stage: StageRecord, request: StageRequest) -> None:
    if stage.run_id == request.run_id:  # a closed one stays as it was closed
        if stage.state in _GIVEN_UP:
            write.move_stage(stage, StageState.RUNNING)
            began = stage.started_at or write.at
            stage.set(resumed=stage.resumed + 1, started_at=began, ended_at=None)
            again = {"state": StageState.RUNNING, "closed_at": None, "error": ""}
            write.update(RunRow, {"run_id": request.run_id}, **again)
        elif stage.queued_at:
            stage.set(queued_at=None)
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
