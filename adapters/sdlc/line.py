"""The line: while a P0 is open, nothing of lower priority starts but what it waits for.

Whoever opens a stage takes the gate's row FOR SHARE and looks in a later statement (READ COMMITTED:
it sees what was committed until then); whoever opens or closes a P0, or moves a blocker, takes it
FOR UPDATE and raises its epoch. So no stage slips through beside a P0 that is being opened.
Requirements' rows are locked before the gate, by everybody: so nobody waits in a circle.
"""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, Update, bindparam, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import BlockerRow, HoldRow, LineRow, RequirementRow
from pipeline.events import EventType, timestamp
from pipeline.model import ORCHESTRATOR, Hold, Priority, RequirementState, Wake

USER_ROUND = 0
"""The round of blockers that a user has named; the others belong to rounds of failures."""

FINAL = [str(state) for state in RequirementState if state.is_final]

_SHARE = select(LineRow.epoch).where(LineRow.id == 1).with_for_update(read=True)
_MOVE = (
    update(LineRow).where(LineRow.id == 1).values(epoch=LineRow.epoch + 1).returning(LineRow.epoch)
)
# A fix has its requirement's priority, and is over when that is.
_OPEN_P0 = select(RequirementRow.number).where(
    RequirementRow.priority == str(Priority.P0),
    RequirementRow.state.not_in(FINAL),
    RequirementRow.parent.is_(None),
)


def waited_for(first: Select[str]) -> Select[str]:
    """Those numbers and, transitively, what they wait for."""
    tree = first.cte(recursive=True)
    blockers = select(BlockerRow.blocked_by).join(tree, BlockerRow.number == tree.c.number)
    return select(tree.union(blockers.where(BlockerRow.resolved_at.is_(None))).c.number)


_EXEMPT = waited_for(_OPEN_P0)
_OWN = select(BlockerRow.blocked_by).where(
    BlockerRow.number == bindparam("number"),
    BlockerRow.round == USER_ROUND,
    BlockerRow.resolved_at.is_(None),
)
_OPEN_HOLDS = select(HoldRow).where(
    HoldRow.number == bindparam("number"), HoldRow.ended_at.is_(None)
)
_IS_BLOCKED = exists().where(
    BlockerRow.number == HoldRow.number,
    BlockerRow.round == USER_ROUND,
    BlockerRow.resolved_at.is_(None),
)
_MAY_GO_ON = (
    select(HoldRow.workflow_id)
    .distinct()
    .join(RequirementRow, RequirementRow.number == HoldRow.number)
    .where(
        HoldRow.ended_at.is_(None),
        ~_IS_BLOCKED,
        or_(
            RequirementRow.priority == str(Priority.P0),
            ~_OPEN_P0.exists(),
            HoldRow.number.in_(_EXEMPT),
        ),
    )
    .order_by(HoldRow.workflow_id)
)


async def move_line(connection: AsyncConnection) -> int:
    """Own the gate until the transaction ends; its new epoch."""
    return int((await connection.execute(_MOVE)).scalar_one())


async def pass_line(
    write: RequirementWrite, boundary: str, waiter: str, outage: Hold | None = None
) -> Hold | None:
    """Share the gate until the transaction ends; why the boundary must not be passed, or None.

    Holds begin and end with it. `waiter` is the workflow to wake; an `outage` that has held it
    until now is recorded.
    """
    if outage:
        await record_outage(write, outage, waiter)
    epoch = int((await write.connection.execute(_SHARE)).scalar_one())
    by, reason = await _holders(write)
    if by:
        return await _hold(write, Hold(boundary, by, reason, epoch, write.at), waiter)
    if write.state is not RequirementState.RUNNING:
        await _let_go(write, waiter)
    return None


async def to_wake(connection: AsyncConnection) -> Wake:
    """Everybody who is held and may go on."""
    epoch = (await connection.execute(select(LineRow.epoch))).scalar_one()
    return Wake(tuple((await connection.execute(_MAY_GO_ON)).scalars()), epoch)


def end_holds(write: RequirementWrite) -> Update:
    """The requirement waits at no boundary any more."""
    mine = (HoldRow.number == write.number) & HoldRow.ended_at.is_(None)
    return update(HoldRow).where(mine).values(ended_at=write.at)


async def _holders(write: RequirementWrite) -> tuple[tuple[str, ...], str]:
    if own := await _numbers(write, _OWN):
        return own, f"It is blocked by {', '.join(own)}."
    if write.row["priority"] == Priority.P0:
        return (), ""
    open_p0 = await _numbers(write, _OPEN_P0)
    if not open_p0 or write.number in await _numbers(write, _EXEMPT):
        return (), ""
    return open_p0, f"{', '.join(open_p0)} {'is' if len(open_p0) == 1 else 'are'} open and P0."


async def _numbers(write: RequirementWrite, query: Select[str]) -> tuple[str, ...]:
    found = await write.connection.execute(query, {"number": write.number})
    return tuple(sorted(found.scalars()))


async def _hold(write: RequirementWrite, hold: Hold, waiter: str) -> Hold:
    """Record that the requirement waits; one that is BLOCKED stays so: its repair is held."""
    open_holds = await _open_holds(write)
    if write.state is RequirementState.RUNNING:
        write.move(RequirementState.HELD, why=hold.reason)
    if write.state is RequirementState.HELD:
        write.set(reason=hold.reason, waiting_for=", ".join(hold.by))
    for row in open_holds:
        if row.boundary == hold.boundary:
            key = {"number": write.number, "boundary": row.boundary, "occurrence": row.occurrence}
            now = {"held_by": list(hold.by), "reason": hold.reason, "epoch": hold.epoch}
            write.update(HoldRow, key, **now, workflow_id=waiter)
            return Hold(hold.boundary, hold.by, hold.reason, hold.epoch, row.created_at)
    await _begin(write, hold, waiter)
    return hold


async def record_outage(write: RequirementWrite, hold: Hold, waiter: str) -> None:
    """A dependency that has held the requirement is there again; a repeat does nothing.

    Only now is there a database to write to: the row says since when it was held.
    """
    mine = (HoldRow.number == write.number) & (HoldRow.boundary == hold.boundary)
    known = select(HoldRow.occurrence).where(mine, HoldRow.created_at == hold.since)
    if (await write.connection.execute(known)).scalar() is not None:
        return
    why = f"{hold.dependency} is there again."
    if write.state is RequirementState.RUNNING:
        write.move(RequirementState.HELD, why=hold.reason)
        write.move(RequirementState.RUNNING, why=why)
    occurrence = await _begin(write, hold, waiter, ended_at=write.at)
    fields = {"round": write.row["round"], "stages": [hold.boundary], "who": ORCHESTRATOR}
    scope, kind = _scope(write, hold.boundary), EventType.WORKFLOW_RESUMED
    write.tell(scope, kind, {**fields, "why": why}, occurrence=occurrence)


async def _begin(
    write: RequirementWrite, hold: Hold, waiter: str, ended_at: datetime | None = None
) -> int:
    """The row of a hold and its event; returns the occurrence that tells it from others."""
    query = select(func.coalesce(func.max(HoldRow.occurrence), 0) + 1).where(
        HoldRow.number == write.number, HoldRow.boundary == hold.boundary
    )
    occurrence = int((await write.connection.execute(query)).scalar_one())
    write.insert(
        HoldRow,
        boundary=hold.boundary,
        occurrence=occurrence,
        held_by=list(hold.by),
        reason=hold.reason,
        epoch=hold.epoch,
        workflow_id=waiter,
        created_at=hold.since,
        ended_at=ended_at,
    )
    since = timestamp(hold.since)
    fields = {"boundary": hold.boundary, "heldBy": list(hold.by), "reason": hold.reason}
    scope, kind = _scope(write, hold.boundary), EventType.WORKFLOW_HELD
    write.tell(scope, kind, {**fields, "since": since}, occurrence=occurrence)
    return occurrence


async def _let_go(write: RequirementWrite, waiter: str) -> None:
    """What lets one boundary pass lets all pass: the requirement runs again, and says so once."""
    mine = [row for row in await _open_holds(write) if row.workflow_id == waiter]
    if not mine:
        return
    write.update_all(end_holds(write).where(HoldRow.workflow_id == waiter))
    if write.state is not RequirementState.HELD:
        return
    why = "Nothing holds it any more."
    write.move(RequirementState.RUNNING, why=why)
    write.set(reason="", waiting_for="")
    boundaries = [row.boundary for row in mine]
    fields = {"round": write.row["round"], "stages": boundaries, "who": ORCHESTRATOR, "why": why}
    scope, occurrence = _scope(write, boundaries[0]), mine[0].occurrence
    write.tell(scope, EventType.WORKFLOW_RESUMED, fields, occurrence=occurrence)


async def _open_holds(write: RequirementWrite) -> Sequence[HoldRow]:
    query = _OPEN_HOLDS.order_by(HoldRow.created_at, HoldRow.boundary)
    return (await write.connection.execute(query, {"number": write.number})).all()  # type: ignore[return-value] # a row has its columns


def _scope(write: RequirementWrite, boundary: str) -> str:
    return f"{write.number}/{write.row['workflow_run']}/{boundary}"
