"""Turns to deliver: at a branch one requirement at a time verifies and swaps, others queue.

The line is served by priority, then arrival. A requirement that asks takes the turn if it is free
and none that may continue stands before it; one that no P0 holds takes it from a less urgent one.
A change owns the line (`_lock_target`), after the requirement's row and the P0 gate. Nothing is
handed over: a requirement that leaves notifies the next, and so does one that finds the turn free
and is not next, so a lost notification stops nobody for long.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter

from sqlalchemy import and_, bindparam, case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc import holds
from adapters.sdlc.holds import hold_back, let_go
from adapters.sdlc.tables import DeliveryTurnRow, RequirementRow
from adapters.sdlc.transaction import RequirementWrite
from pipeline.model import DeliveryRequest, Hold, Notification, Priority, Turn
from pipeline.plan_rules import DELIVER

_IS_EXEMPT = RequirementRow.number.in_(holds.EXEMPT)
_RANK = case((_IS_EXEMPT, str(Priority.P0)), else_=RequirementRow.priority)
_MAY_PROCEED = and_(
    ~holds.is_blocked(RequirementRow),
    ~holds.is_paused(RequirementRow),
    or_(_IS_EXEMPT, ~holds.OPEN_P0.exists()),
)
_IN_LINE = (
    select(
        DeliveryTurnRow.number,
        DeliveryTurnRow.repository,
        DeliveryTurnRow.target_branch,
        DeliveryTurnRow.taken_at.is_not(None).label("has_turn"),
        _IS_EXEMPT.label("is_urgent"),
        _MAY_PROCEED.label("may_proceed"),
    )
    .join(RequirementRow, RequirementRow.number == DeliveryTurnRow.number)
    .where(DeliveryTurnRow.left_at.is_(None))
    .order_by(
        DeliveryTurnRow.repository,
        DeliveryTurnRow.target_branch,
        DeliveryTurnRow.taken_at.is_(None),
        _RANK,
        DeliveryTurnRow.arrived_at,
        DeliveryTurnRow.number,
    )
)
"""The requirement with the turn comes first in its line."""
PLACE = select(DeliveryTurnRow.repository, DeliveryTurnRow.target_branch).where(
    DeliveryTurnRow.number == bindparam("number"), DeliveryTurnRow.left_at.is_(None)
)
"""The line in which the requirement `number` stands; its own transactions alone change that."""


@dataclass(frozen=True)
class _Place:
    """A requirement in line; `is_urgent`: no P0 holds it while one is open."""

    number: str
    repository: str
    target_branch: str
    has_turn: bool
    is_urgent: bool
    may_proceed: bool


async def pass_delivery(
    connection: AsyncConnection,
    request: DeliveryRequest,
    subscriber: str,
    repository: str,
    *,
    is_verified: bool,
) -> Hold | None:
    """Let the requirement have its turn, or say what holds it: the gate, or those before it.

    `is_verified`: with this turn `request.head` is delivered. Where no project is needed there is
    no turn, only the gate.

    Raises: UnknownRequirement, IllegalTransition if the requirement has ended.
    """
    number = request.ref.number
    write = await RequirementWrite.lock(connection, number, *holds.gate_reads(number))
    hold = await holds.held_at_gate(write, DELIVER, subscriber, request.held)
    if hold:
        await leave_line(write, keeps_place=True)
    elif request.head:
        hold = await _take_turn(write, request, repository)
    if hold:
        hold = await hold_back(write, hold, subscriber)
    else:
        await let_go(write, subscriber)
        if is_verified and request.head:
            write.update(DeliveryTurnRow, {"number": write.number}, commit=request.head.commit)
    await write.flush()
    return hold


async def leave_line(write: RequirementWrite, *, keeps_place: bool) -> bool:
    """Let others deliver; whether the requirement was in line at all.

    The line is owned for it: the next, notified after this commit, sees who has asked before.
    One that `keeps_place` is served by its first arrival when it comes back.
    """
    found = await write.read(PLACE, number=write.number)
    if not found:
        return False
    await _lock_target(write.connection, found[0]["repository"], found[0]["target_branch"])
    row = DeliveryTurnRow
    arrived = row.arrived_at if keeps_place else None
    values = {"left_at": write.at, "taken_at": None, "arrived_at": arrived}
    mine = (row.number == write.number) & row.left_at.is_(None)
    await write.connection.execute(update(row).where(mine).values(values))
    return True


async def leave(connection: AsyncConnection, number: str, *, keeps_place: bool) -> bool:
    """Let others deliver; whether the requirement was in line. Raises: UnknownRequirement."""
    return await leave_line(
        await RequirementWrite.lock(connection, number), keeps_place=keeps_place
    )


async def is_delivery(connection: AsyncConnection, commit: str) -> bool:
    """Whether one of our requirements was to deliver that very commit."""
    query = select(DeliveryTurnRow.number).where(DeliveryTurnRow.commit == commit).limit(1)
    return (await connection.execute(query)).first() is not None


async def to_notify(connection: AsyncConnection) -> Notification:
    """Everybody who is held and may continue, and who is next where nobody has the turn."""
    held = await holds.to_notify(connection)
    following = (_next(each) for each in await _lines(connection))
    return Notification(
        held.workflow_ids, held.gate_version, tuple(one.number for one in following if one)
    )


async def standings(connection: AsyncConnection) -> Mapping[str, Turn]:
    """Where everybody stands who waits for a turn, as of now."""
    return {
        place.number: _standing(each, place)
        for each in await _lines(connection)
        for place in each
        if not place.has_turn
    }


async def _take_turn(
    write: RequirementWrite, request: DeliveryRequest, repository: str
) -> Hold | None:
    target = request.target_branch
    await _lock_target(write.connection, repository, target)
    await _join(write, repository, target)
    (places,) = await _lines(write.connection, repository, target)
    mine = next(place for place in places if place.number == write.number)
    if mine.has_turn:
        return None
    first = places[0]
    if first.has_turn and mine.is_urgent and not first.is_urgent:
        await _set_turn(write, first.number, taken=False)
        (places,) = await _lines(write.connection, repository, target)
    if _next(places) == mine:
        await _set_turn(write, mine.number, taken=True)
        return None
    turn = _standing(places, mine)
    reason = f"{turn.text} Its place now: starter.py status {mine.number}"
    return Hold(DELIVER, (turn.behind,), reason, await holds.share_gate(write), write.at)


async def _lock_target(connection: AsyncConnection, repository: str, target_branch: str) -> None:
    """Own the line of that branch until the transaction ends; always after the P0 gate."""
    name = func.hashtextextended(f"deliver to {target_branch} of {repository}", 0)
    await connection.execute(select(func.pg_advisory_xact_lock(name)))


async def _join(write: RequirementWrite, repository: str, target_branch: str) -> None:
    row = DeliveryTurnRow
    where = {"repository": repository, "target_branch": target_branch}
    statement = insert(row).values(number=write.number, arrived_at=write.at, **where)
    arrived = func.coalesce(row.arrived_at, statement.excluded.arrived_at)
    values = {**where, "arrived_at": arrived, "left_at": None}
    await write.connection.execute(
        statement.on_conflict_do_update(index_elements=[row.number], set_=values)
    )


async def _set_turn(write: RequirementWrite, number: str, *, taken: bool) -> None:
    row = DeliveryTurnRow
    values = {"taken_at": write.at if taken else None}
    await write.connection.execute(update(row).where(row.number == number).values(values))


async def _lines(connection: AsyncConnection, *of: str) -> Sequence[Sequence[_Place]]:
    """Every line that somebody stands in, or that of one repository and branch."""
    row = DeliveryTurnRow
    query = _IN_LINE
    if of:
        repository, target_branch = of
        query = query.where(row.repository == repository, row.target_branch == target_branch)
    places = [_Place(**found) for found in (await connection.execute(query)).mappings()]
    by_target = groupby(places, key=attrgetter("repository", "target_branch"))
    return [list(each) for _, each in by_target]


def _next(places: Sequence[_Place]) -> _Place | None:
    """Who may take the turn; None while somebody has it, or while all are held."""
    if places[0].has_turn:
        return None
    return next((place for place in places if place.may_proceed), None)


def _standing(places: Sequence[_Place], of: _Place) -> Turn:
    at = places.index(of)
    behind = places[at - 1].number if at else ""
    delivering = places[0].number if places[0].has_turn else ""
    return Turn(of.target_branch, at + 1, behind, delivering, is_held=not of.may_proceed)
