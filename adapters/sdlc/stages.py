"""A stage begins, or turns out not to be needed."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.context import LOCK_WITH_DESCRIPTION, load_context
from adapters.sdlc.groups import complete_group
from adapters.sdlc.holding import record_outage
from adapters.sdlc.line import pass_line
from adapters.sdlc.writing import RequirementWrite, StageRecord
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
_WAITS_FOR_PERMIT = (StageState.RUNNING, StageState.HELD)
_STARTED = select(RunRow.started_at).where(RunRow.run_id == bindparam("run_id"))
# Blocked, it still makes gates again: a fix is only as good as what says so.
_STARTABLE = (RequirementState.RUNNING, RequirementState.HELD, RequirementState.BLOCKED)


async def open_stage(
    connection: AsyncConnection, request: StageRequest, waiter: str
) -> StageContext | Hold:
    """Open the run's row, unless it is held; a repeat only reads what the agent must be told.

    `waiter` is the workflow that waits if it is held.

    Raises: StaleAttempt if a newer attempt is current, IllegalTransition if the requirement or
        the stage cannot start anything now, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, request.ref.number, LOCK_WITH_DESCRIPTION)
    context = await load_context(write, request)
    stage = write.stage(request.stage.name)
    if stage.run_id != request.run_id or stage.state in _GIVEN_UP:
        refuse_stale(stage, request.attempt)
        _check_startable(write, request)
        lose(write, stage, f"Lost; attempt {request.attempt} takes its place.")
        hold = await pass_line(write, stage.stage, waiter, request.held)
        if hold:
            _hold(write, stage, hold)
        else:
            _open(write, stage, request)
        await write.flush()
        return hold or context
    if request.held:  # it was opened, and went away before its agent could start
        await record_outage(write, request.held, waiter)
        await write.flush()
    row = await connection.execute(_STARTED, {"run_id": request.run_id})
    return replace(context, started_at=row.scalar())


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


async def pass_again(
    connection: AsyncConnection, request: StageRequest, waiter: str
) -> Hold | None:
    """Whether an opened stage may still start after it has waited for a permit; else it is held.

    Held, it is opened again later: its run stays the same, and so does what was told of it. It may
    be held already, by a twin: an activity that was given up while it went on waiting.

    Raises: StaleAttempt if its run is not the stage's current one, IllegalTransition if the
        requirement has ended, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, request.ref.number)
    await write.load_stages()
    stage = write.stage(request.stage.name)
    if stage.attempt != request.attempt or stage.state not in _WAITS_FOR_PERMIT:
        raise StaleAttempt(f"{request.run_id} is not the current run of its stage any more.")
    hold = await pass_line(write, stage.stage, waiter)
    if hold and stage.state is StageState.RUNNING:
        _take_back(write, stage, hold)
    elif not hold and stage.state is StageState.HELD:
        _open(write, stage, request)
    await write.flush()
    return hold


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


def _check_startable(write: RequirementWrite, request: StageRequest) -> None:
    if write.state not in _STARTABLE:
        raise IllegalTransition(
            f"{write.number} is {write.state}: {request.stage.name} cannot start."
        )


def _hold(write: RequirementWrite, stage: StageRecord, hold: Hold) -> None:
    if stage.state is StageState.HELD:
        return
    if stage.state is not StageState.WAITING:
        write.move_stage(stage, StageState.WAITING, why="It is to run again.")
    write.move_stage(stage, StageState.HELD, why=hold.reason)


def _take_back(write: RequirementWrite, stage: StageRecord, hold: Hold) -> None:
    write.update(RunRow, {"run_id": stage.run_id}, state=StageState.HELD)
    write.move_stage(stage, StageState.HELD, why=hold.reason)
    stage.set(run_id=None, started_at=None)


def _open(write: RequirementWrite, stage: StageRecord, request: StageRequest) -> None:
    if request.again and (stage.state.is_done or stage.state is StageState.BLOCKED):
        write.move_stage(stage, StageState.WAITING, why=request.again)
    write.move_stage(stage, StageState.RUNNING)
    was_taken_back = stage.attempt == request.attempt
    resumed = stage.resumed + 1 if stage.run_id == request.run_id else 0
    began = stage.started_at if resumed and stage.started_at else write.at
    stage.set(
        attempt=request.attempt,
        run_id=request.run_id,
        resumed=resumed,
        started_at=began,
        ended_at=None,
    )
    if was_taken_back:
        again = {"state": StageState.RUNNING, "closed_at": None, "error": ""}
        write.update(RunRow, {"run_id": request.run_id}, **again)
        return
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
