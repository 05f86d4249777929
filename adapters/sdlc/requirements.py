"""A requirement's row from acceptance to its end."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta

from pydantic import TypeAdapter
from sqlalchemy import Update, and_, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.blockers import WAITS_FOR, add, is_waited_for, resolve_dependents
from adapters.sdlc.costs import SPENT, cost_fields, cost_of_row
from adapters.sdlc.deliveries import PLACE, leave_line
from adapters.sdlc.failures import close_escalations, resolve_blockers, resolve_failures
from adapters.sdlc.holds import (
    EXEMPT,
    end_holds,
    gate_reads,
    is_blocked,
    is_paused,
    lock_gate,
    pass_gate,
)
from adapters.sdlc.pauses import end_pause
from adapters.sdlc.performance import performance_of, performance_reads
from adapters.sdlc.retries import end_retries, leave_behind
from adapters.sdlc.run_ends import lose
from adapters.sdlc.tables import ExtensionRow, FixRow, PhaseRow, RequirementRow, RunRow, StageRow
from adapters.sdlc.transaction import (
    STAGES,
    RequirementWrite,
    Rows,
    lock_rows,
    read_together,
)
from pipeline.errors import AlreadyStarted, UnknownRequirement
from pipeline.events import EventType
from pipeline.model import (
    NO_COST,
    OPENING,
    Closing,
    Cost,
    Extension,
    Hold,
    Mode,
    Opening,
    OpeningRequest,
    Priority,
    RequirementOrder,
    RequirementState,
    StageState,
)
from pipeline.savings import Performance
from pipeline.undo import REASON

ORDER = TypeAdapter(RequirementOrder)
"""The input as JSON and back."""


@dataclass(frozen=True)
class Acceptance:
    """A requirement to be accepted: its workflow's input and the text that stays in the row."""

    order: RequirementOrder
    description: str
    parent: str | None = None
    assignee: str | None = None
    who: str = "user"
    blocked_by: tuple[str, ...] = ()

    @property
    def changes_gate(self) -> bool:
        """Whether it changes who may continue: a P0 that is no fix, or one with blockers."""
        is_p0 = self.order.priority is Priority.P0 and self.parent is None
        return is_p0 or bool(self.blocked_by)


async def accept(connection: AsyncConnection, acceptances: Sequence[Acceptance]) -> tuple[str, ...]:
    """Insert all or none; returns the numbers that are new.

    The others are starts that got no further than their row, and may be completed.

    Raises: RefusedInput for blockers; AlreadyStarted for a number that is taken, in whatever case;
        UnknownRequirement for a parent that does not exist.
    """
    _refuse_twins(acceptances)
    await _check_parents(connection, acceptances)
    await lock_rows(connection, {by for a in acceptances for by in a.blocked_by})
    if any(a.changes_gate for a in acceptances):
        await lock_gate(connection)
    at = datetime.now(UTC)
    new = await _insert_requirements(connection, acceptances, at)
    await _refuse_taken(connection, [a for a in acceptances if a.order.number not in new])
    fresh = [a for a in acceptances if a.order.number in new]
    if fresh:
        await connection.execute(insert(PhaseRow), [_phase(a, at) for a in fresh])
    if stages := [row for a in fresh for row in _stages(a.order)]:
        await connection.execute(insert(StageRow), stages)
    for each in fresh:
        await add(connection, each.order.number, each.blocked_by)
    return tuple(a.order.number for a in fresh)


def _refuse_twins(acceptances: Sequence[Acceptance]) -> None:
    seen: dict[str, str] = {}
    for acceptance in acceptances:
        number = acceptance.order.number
        if twin := seen.get(number.lower()):
            raise AlreadyStarted(f"{number} and {twin} are the same number.")
        seen[number.lower()] = number


async def _check_parents(connection: AsyncConnection, acceptances: Sequence[Acceptance]) -> None:
    known = {a.order.number for a in acceptances}
    parents = {a.parent for a in acceptances if a.parent} - known
    if not parents:
        return
    query = select(RequirementRow.number).where(RequirementRow.number.in_(sorted(parents)))
    found = set((await connection.execute(query)).scalars())
    if missing := sorted(parents - found):
        raise UnknownRequirement(f"There is no requirement {missing[0]} to be the parent.")


async def _insert_requirements(
    connection: AsyncConnection, acceptances: Sequence[Acceptance], at: datetime
) -> set[str]:
    if not acceptances:
        return set()
    statement = upsert(RequirementRow).on_conflict_do_nothing().returning(RequirementRow.number)
    # In one order everywhere, so that two batches cannot wait for each other's rows.
    ordered = sorted(acceptances, key=lambda a: a.order.number.lower())
    inserted = await connection.execute(statement, [_requirement(a, at) for a in ordered])
    return set(inserted.scalars())


async def _refuse_taken(connection: AsyncConnection, acceptances: Sequence[Acceptance]) -> None:
    folded = [a.order.number.lower() for a in acceptances]
    if not folded:
        return
    query = select(RequirementRow.number, RequirementRow.number_folded, RequirementRow.state).where(
        RequirementRow.number_folded.in_(folded)
    )
    rows = {row.number_folded: row for row in await connection.execute(query)}
    for acceptance in acceptances:
        number = acceptance.order.number
        row = rows[number.lower()]
        if row.number != number:
            raise AlreadyStarted(f"{number} is taken: {row.number} differs only in case.")
        if row.state != RequirementState.ACCEPTED:
            raise AlreadyStarted(f"{number} is already {row.state}: a number is used once.")


def _requirement(acceptance: Acceptance, at: datetime) -> Mapping[str, object]:
    order = acceptance.order
    return {
        "number": order.number,
        "number_folded": order.number.lower(),
        "title": order.title,
        "description": acceptance.description,
        "priority": str(order.priority),
        "state": str(RequirementState.ACCEPTED),
        "mode": str(Mode.SEQUENTIAL if order.sequential else Mode.PARALLEL),
        "sequential": order.sequential,
        "pre_empts": order.pre_empts,
        "pipeline": order.pipeline.name,
        "plan": ORDER.dump_python(order, mode="json"),
        "parent": acceptance.parent,
        "assignee": acceptance.assignee,
        "waiting_for": "host",
        "created_at": at,
        "updated_at": at,
    }


def _phase(acceptance: Acceptance, at: datetime) -> Mapping[str, object]:
    return {
        "number": acceptance.order.number,
        "stage": "",
        "source": None,
        "target": str(RequirementState.ACCEPTED),
        "at": at,
        "who": acceptance.who,
        "why": "",
    }


def _stages(order: RequirementOrder) -> Sequence[Mapping[str, object]]:
    return [
        {
            "number": order.number,
            "stage": stage.name,
            "agent": stage.agent,
            "group": stage.group,
            "position": position,
            "needs": list(stage.needs),
            "state": str(StageState.COMPLETED if order.undo else StageState.WAITING),
            "reason": REASON if order.undo else "",
        }
        for position, stage in enumerate(order.pipeline.stages)
    ]


# --- from the opening to the end ------------------------------------------------------------------

_ENDS = {
    RequirementState.DELIVERED: EventType.WORKFLOW_COMPLETED,
    RequirementState.FAILED: EventType.WORKFLOW_FAILED,
    RequirementState.CANCELLED: EventType.WORKFLOW_CANCELLED,
}


async def pass_opening(
    connection: AsyncConnection, request: OpeningRequest, subscriber: str
) -> Hold | None:
    """Let a host take the requirement, or say what holds it. Raises: UnknownRequirement."""
    number = request.ref.number
    write = await RequirementWrite.lock(connection, number, *gate_reads(number))
    if write.row["workflow_run"] == request.ref.workflow_run:
        return None
    before = write.state
    hold = await pass_gate(write, OPENING, subscriber, request.held)
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

    Returns whether somebody may have to be notified: it has changed the gate or stood in the line
    of its target, or may have before.

    Raises: IllegalTransition if it has ended otherwise, UnknownRequirement.
    """
    number = closing.ref.number
    key = {"number": number}
    write = await RequirementWrite.lock(
        connection,
        number,
        *((statement, key) for statement in (STAGES, UNSTARTED_FIXES, WAITS_FOR, PLACE)),
        (SPENT, {"numbers": [number]}),
        *performance_reads(number),
    )
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
        delivery=asdict(closing.delivered) if closing.delivered else None,
    )
    end = str(closing.state)
    write.update_all(
        resolve_blockers(write),
        close_escalations(write, end, closing.who, closing.reason),
        end_holds(write),
        end_pause(write, closing.who),
        end_retries(write),
        _close_held_runs(write, closing.reason),
    )
    if closing.left:
        leave_behind(write, closing)
    if closing.state is RequirementState.DELIVERED:
        write.update_all(resolve_failures(write))
    _tell(write, closing)
    spent = await write.read(SPENT, numbers=[number])
    cost = cost_of_row(spent[0]) if spent else NO_COST
    _tell_performance(write, closing, await performance_of(write), cost)
    unstarted = await write.read(UNSTARTED_FIXES, **key)
    await _cancel(connection, unstarted, closing)  # before the gate: it locks their rows
    has_moved = await _clear_line(write, closing)
    has_left = await leave_line(write, keeps_place=False)
    await write.flush()
    return has_moved or has_left


def _close_held_runs(write: RequirementWrite, reason: str) -> Update:
    """Runs that were opened and then held before they could start: they never will."""
    mine = (RunRow.number == write.number) & (RunRow.state == str(StageState.HELD))
    closed = {"state": str(StageState.FAILED), "closed_at": write.at, "error": reason}
    return update(RunRow).where(mine).values(closed)


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


async def description(connection: AsyncConnection, number: str) -> str:
    """The text of a requirement. Raises: UnknownRequirement."""
    query = select(RequirementRow.description).where(RequirementRow.number == number)
    text = (await connection.execute(query)).scalar()
    if text is None:
        raise UnknownRequirement(f"There is no requirement {number}.")
    return str(text)


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
    goes_on = and_(
        RequirementRow.state == str(RequirementState.HELD),
        ~is_blocked(RequirementRow),
        ~is_paused(RequirementRow),
    )
    query = select(func.count()).where(
        RequirementRow.host == host,
        or_(RequirementRow.state == str(RequirementState.RUNNING), goes_on),
        RequirementRow.number != number,
    )
    if (await connection.execute(query)).scalar_one() < limit:
        return False
    return number not in (await connection.execute(EXEMPT)).scalars().all()


async def _clear_line(write: RequirementWrite, closing: Closing) -> bool:
    """What this one has held may continue; a blocker that was not delivered keeps blocking.

    Returns whether it has held anybody.
    """
    frees = closing.state is RequirementState.DELIVERED and await is_waited_for(write)
    moves = frees or write.row["priority"] == Priority.P0
    if moves:
        await lock_gate(write.connection)
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


def _tell_performance(
    write: RequirementWrite, closing: Closing, performance: Performance, cost: Cost
) -> None:
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
            **cost_fields(cost),
        },
    )


# --- fixes that never began -----------------------------------------------------------------------

UNSTARTED_FIXES = (
    select(FixRow.number)
    .join(RequirementRow, RequirementRow.number == FixRow.number)
    .where(
        FixRow.root == bindparam("number"),
        RequirementRow.state == str(RequirementState.ACCEPTED),
    )
    .order_by(FixRow.number)
)
"""Those of the requirement `number`."""


async def cancel_unstarted_fixes(connection: AsyncConnection, closing: Closing) -> None:
    """Close the rows of fixes that were opened and never started: nobody else would.

    The requirement ends after everything below it, so what is still ACCEPTED stays so.
    """
    key = {"number": closing.ref.number}
    (unstarted,) = await read_together(connection, (UNSTARTED_FIXES, key))
    await _cancel(connection, unstarted, closing)


async def _cancel(connection: AsyncConnection, fixes: Rows, closing: Closing) -> None:
    for number in [fix["number"] for fix in fixes]:
        write = await RequirementWrite.lock(connection, number)
        why = f"{closing.ref.number} ended before it began."
        write.move(RequirementState.CANCELLED, who=closing.who, why=why)
        write.set(reason=why, waiting_for="", ended_at=write.at)
        await write.flush()
