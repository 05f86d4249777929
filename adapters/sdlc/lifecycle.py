"""The beginning and the end of a requirement."""

from datetime import timedelta

from sqlalchemy import Update, and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.answers import close_escalations
from adapters.sdlc.holding import end_holds, record_outage
from adapters.sdlc.line import EXEMPT, gate_reads, is_blocked, move_line, pass_line
from adapters.sdlc.performance import Performance, measure
from adapters.sdlc.resuming import resolve_blockers, resolve_failures
from adapters.sdlc.retries import end_retries, leave_behind
from adapters.sdlc.stages import lose
from adapters.sdlc.turns import leave_line
from adapters.sdlc.unstarted import cancel_unstarted_fixes
from adapters.sdlc.user_blockers import is_waited_for, resolve_dependents
from adapters.sdlc.writing import STAGES, RequirementWrite
from adapters.sdlc_tables import ExtensionRow, RequirementRow, RunRow
from pipeline.errors import AlreadyStarted
from pipeline.events import EventType
from pipeline.model import (
    OPENING,
    Closing,
    Extension,
    Held,
    Hold,
    Mode,
    Opening,
    OpeningRequest,
    Priority,
    RequirementState,
    StageState,
)

_ENDS = {
    RequirementState.DELIVERED: EventType.WORKFLOW_COMPLETED,
    RequirementState.FAILED: EventType.WORKFLOW_FAILED,
    RequirementState.CANCELLED: EventType.WORKFLOW_CANCELLED,
}


async def pass_opening(
    connection: AsyncConnection, request: OpeningRequest, waiter: str
) -> Hold | None:
    """Let a host take the requirement, or say what holds it. Raises: UnknownRequirement."""
    number = request.ref.number
    write = await RequirementWrite.lock(connection, number, *gate_reads(number))
    if write.row["workflow_run"] == request.ref.workflow_run:
        return None
    before = write.state
    hold = await pass_line(write, OPENING, waiter)
    if hold or write.state is not before:  # it is asked again and again while the host is full
        await write.flush()
    return hold


async def open_requirement(
    connection: AsyncConnection, request: OpeningRequest, opening: Opening
) -> None:
    """ACCEPTED -> RUNNING on that host; a repeat by the same execution does nothing.

    Raises: AlreadyStarted if another execution has it, IllegalTransition, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, request.ref.number)
    owner = write.row["workflow_run"]
    if owner == request.ref.workflow_run:
        return
    if owner is not None:
        raise AlreadyStarted(f"{write.number} belongs to the execution {owner}.")
    write.move(RequirementState.RUNNING)
    sequential = request.sequential or not opening.parallel
    head = opening.head.commit if opening.head else None
    write.set(
        workflow_run=request.ref.workflow_run,
        mode=Mode.SEQUENTIAL if sequential else Mode.PARALLEL,
        host=opening.host,
        base_commit=head,
        head_commit=head,
        target_branch=opening.target_branch or None,
        started_at=write.at,
        waiting_for="",
    )
    fields = {"title": write.row["title"], "pipeline": request.pipeline.name, "host": opening.host}
    write.tell(request.ref.key, EventType.WORKFLOW_STARTED, fields)
    await write.flush()


async def close_requirement(connection: AsyncConnection, closing: Closing) -> bool:
    """Record the end and what the requirement brought; a repeat does nothing.

    Returns whether somebody may have to be woken: it has moved the gate or stood in the line of its
    target, or may have before.

    Raises: IllegalTransition if it has ended otherwise, UnknownRequirement.
    """
    number = closing.ref.number
    write = await RequirementWrite.lock(connection, number, (STAGES, {"number": number}))
    if write.state is closing.state:
        return True
    await write.load_stages()
    for stage in write.stages.values():
        lose(write, stage, closing.reason)
        if stage.state is StageState.HELD:
            write.move_stage(stage, StageState.WAITING, why=closing.reason)
    write.move(closing.state, who=closing.who, why=closing.reason)
    write.set(
        workflow_run=closing.ref.workflow_run,
        reason=closing.reason,
        waiting_for="",
        ended_at=write.at,
    )
    end = str(closing.state)
    write.update_all(
        resolve_blockers(write),
        close_escalations(write, end, closing.who, closing.reason),
        end_holds(write),
        end_retries(write),
        _close_held_runs(write, closing.reason),
    )
    if closing.left:
        leave_behind(write, closing)
    if closing.state is RequirementState.DELIVERED:
        write.update_all(resolve_failures(write))
    _tell(write, closing)
    _tell_performance(write, closing, await measure(connection, write.number, write.at))
    await cancel_unstarted_fixes(connection, closing)  # before the gate: it locks their rows
    has_moved = await _clear_line(write, closing)
    has_left = await leave_line(write, keeps_place=False)
    await write.flush()
    return has_moved or has_left


def _close_held_runs(write: RequirementWrite, reason: str) -> Update:
    """Runs that were opened and then held before they could start: they never will."""
    mine = (RunRow.number == write.number) & (RunRow.state == str(StageState.HELD))
    closed = {"state": str(StageState.FAILED), "closed_at": write.at, "error": reason}
    return update(RunRow).where(mine).values(closed)


async def record_hold(connection: AsyncConnection, held: Held) -> None:
    """A hold by a dependency is over; a repeat does nothing. Raises: UnknownRequirement."""
    write = await RequirementWrite.lock(connection, held.ref.number)
    await record_outage(write, held.hold, held.workflow_id)
    await write.flush()


async def extend(connection: AsyncConnection, extension: Extension) -> None:
    """The row of an extended deadline; a repeat does nothing. Raises: UnknownRequirement."""
    write = await RequirementWrite.lock(connection, extension.ref.number)
    key = (ExtensionRow.run_id == extension.run_id) & (ExtensionRow.deadline == extension.deadline)
    if (await connection.execute(select(ExtensionRow.run_id).where(key))).scalar() is not None:
        return
    write.insert(
        ExtensionRow,
        run_id=extension.run_id,
        deadline=extension.deadline,
        stage=extension.stage,
        minutes=extension.minutes,
        who=extension.who,
        reason=extension.reason,
        at=write.at,
    )
    await write.flush()


async def has_room(connection: AsyncConnection, host: str, limit: int) -> bool:
    """Whether the host may ask for an opening.

    It has room, or an open P0 waits for a requirement that no host has taken yet: whatever else it
    gets then is held by that P0.
    """
    if not await is_full(connection, host, limit, ""):
        return True
    waited_for = RequirementRow.number.in_(EXEMPT) & RequirementRow.workflow_run.is_(None)
    query = select(RequirementRow.number).where(
        waited_for, RequirementRow.priority != str(Priority.P0), RequirementRow.parent.is_(None)
    )
    return (await connection.execute(query.limit(1))).first() is not None


async def is_full(connection: AsyncConnection, host: str, limit: int, number: str) -> bool:
    """Whether the host has so many others that run, or will as soon as the gate is open.

    It always has room for what an open P0 waits for.
    """
    goes_on = and_(RequirementRow.state == str(RequirementState.HELD), ~is_blocked(RequirementRow))
    query = select(func.count()).where(
        RequirementRow.host == host,
        or_(RequirementRow.state == str(RequirementState.RUNNING), goes_on),
        RequirementRow.number != number,
    )
    if (await connection.execute(query)).scalar_one() < limit:
        return False
    return number not in (await connection.execute(EXEMPT)).scalars().all()


async def _clear_line(write: RequirementWrite, closing: Closing) -> bool:
    """Whoever this one has held may go on; a blocker that was not delivered goes on blocking.

    Returns whether it has held anybody.
    """
    frees = closing.state is RequirementState.DELIVERED and await is_waited_for(write)
    moves = frees or write.row["priority"] == Priority.P0
    if moves:
        await move_line(write.connection)
    if frees:
        await resolve_dependents(write)
    return moves


def _tell(write: RequirementWrite, closing: Closing) -> None:
    fields: dict[str, object] = {"reason": closing.reason, "who": closing.who}
    if closing.state is RequirementState.DELIVERED:
        began = write.row["started_at"] or write.row["created_at"]
        duration = (write.at - began) // timedelta(milliseconds=1)
        fields = {"duration": duration, "commit": closing.commit}
    elif closing.state is RequirementState.FAILED:
        fields = {"error": closing.reason, "who": closing.who}
    write.tell(closing.ref.key, _ENDS[closing.state], fields)


def _tell_performance(write: RequirementWrite, closing: Closing, performance: Performance) -> None:
    savings = performance.savings
    write.tell(
        closing.ref.key,
        EventType.WORKFLOW_PERFORMANCE,
        {
            "sequentialTime": savings.sequential_hours,
            "parallelTime": savings.parallel_hours,
            "timeSaved": savings.saved_hours,
            "percentageSaved": savings.percentage_saved,
            "wallSeconds": performance.wall.total_seconds(),
            "queueSeconds": performance.queue.total_seconds(),
            "holdSeconds": performance.hold.total_seconds(),
            "humanSeconds": performance.human.total_seconds(),
        },
    )
