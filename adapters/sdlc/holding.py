"""Rows and events of holds: a requirement waits at a boundary, and goes on."""

from datetime import datetime

from sqlalchemy import Update, bindparam, func, select, update

from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import HoldRow
from pipeline.events import EventType, timestamp
from pipeline.model import ORCHESTRATOR, PRE_EMPTION, Hold, RequirementState

OPEN_HOLDS = (
    select(HoldRow.boundary, HoldRow.occurrence, HoldRow.workflow_id, HoldRow.created_at)
    .where(HoldRow.number == bindparam("number"), HoldRow.ended_at.is_(None))
    .order_by(HoldRow.created_at, HoldRow.boundary)
)
"""What a requirement is held by now."""


async def hold_back(write: RequirementWrite, hold: Hold, waiter: str) -> Hold:
    """Record that the requirement waits; one that is BLOCKED stays so: its repair is held."""
    open_holds = await write.read(OPEN_HOLDS, number=write.number)
    if write.state in (RequirementState.RUNNING, RequirementState.ACCEPTED):
        write.move(RequirementState.HELD, why=hold.reason)
    if write.state is RequirementState.HELD:
        write.set(reason=hold.reason, waiting_for=", ".join(hold.by))
    for row in open_holds:
        if (row["boundary"], row["workflow_id"]) == (hold.boundary, waiter):
            key = {name: row[name] for name in ("boundary", "occurrence")}
            key["number"] = write.number
            now = {"held_by": list(hold.by), "reason": hold.reason, "epoch": hold.epoch}
            write.update(HoldRow, key, **now)
            return Hold(hold.boundary, hold.by, hold.reason, hold.epoch, row["created_at"])
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
    query = select(func.coalesce(func.max(HoldRow.occurrence), 0)).where(
        HoldRow.number == write.number, HoldRow.boundary == hold.boundary
    )
    stored = int((await write.connection.execute(query)).scalar_one())
    # An outage that is over and the P0 that holds next may begin in one transaction: the first row
    # is not sent yet when the second one is numbered.
    occurrence = max(stored, write.holds_begun.get(hold.boundary, 0)) + 1
    write.holds_begun[hold.boundary] = occurrence
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


async def let_go(write: RequirementWrite, waiter: str, *, agents: bool = False) -> None:
    """The waiter's holds at boundaries are over, or that of its running agents; it is said once.

    The requirement runs again, or waits for a host again, unless it is the agents' that is over and
    another one is not.
    """
    holds = await write.read(OPEN_HOLDS, number=write.number)
    mine = [
        row
        for row in holds
        if row["workflow_id"] == waiter and agents == (row["boundary"] == PRE_EMPTION)
    ]
    if not mine:
        return
    names = [row["boundary"] for row in mine]
    over = (HoldRow.workflow_id == waiter) & HoldRow.boundary.in_(names)
    write.update_all(end_holds(write).where(over))
    is_held = agents and len(mine) < len(holds)
    if write.state is not RequirementState.HELD or is_held:
        return
    why = "Nothing holds it any more."
    is_taken = write.row["workflow_run"] is not None
    write.move(RequirementState.RUNNING if is_taken else RequirementState.ACCEPTED, why=why)
    write.set(reason="", waiting_for="")
    fields = {"round": write.row["round"], "stages": names, "who": ORCHESTRATOR, "why": why}
    scope, occurrence = _scope(write, names[0]), mine[0]["occurrence"]
    write.tell(scope, EventType.WORKFLOW_RESUMED, fields, occurrence=occurrence)


def end_boundary_holds(write: RequirementWrite) -> Update:
    """The requirement waits at no boundary any more; its agents may still stand still."""
    return end_holds(write).where(HoldRow.boundary != PRE_EMPTION)


def end_holds(write: RequirementWrite) -> Update:
    """Nothing of the requirement waits any more."""
    mine = (HoldRow.number == write.number) & HoldRow.ended_at.is_(None)
    return update(HoldRow).where(mine).values(ended_at=write.at)


def _scope(write: RequirementWrite, boundary: str) -> str:
    return f"{write.number}/{write.row['workflow_run'] or 'no host'}/{boundary}"
