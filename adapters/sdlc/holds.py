"""What holds a requirement at a checkpoint: P0 gate, blockers, pauses, a dependency that is down.

While a P0 is open, nothing of lower priority starts except what the P0 waits for. Starting work
takes a shared lock on the gate's row, then looks for open P0s in a later statement (READ COMMITTED:
it sees what was committed until then). Opening or closing a P0, and changing a blocker or a pause,
takes the lock exclusively and increments its version (`gate_version`). So no stage slips through
beside a P0 that is being opened.

Lock order, to exclude deadlocks: the requirements' rows, the gate, the users' blockers.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Text,
    Update,
    and_,
    any_,
    bindparam,
    case,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute, aliased

from adapters.sdlc.tables import (
    AccountRow,
    BlockerRow,
    BudgetRow,
    DeliveryTurnRow,
    FixRow,
    HoldRow,
    P0GateRow,
    PauseRow,
    RequirementRow,
    RunRow,
    is_open,
)
from adapters.sdlc.transaction import Read, RequirementWrite
from pipeline.errors import IllegalTransition
from pipeline.events import EventType, timestamp
from pipeline.model import (
    OPENING,
    ORCHESTRATOR,
    PRE_EMPTION,
    Held,
    Hold,
    Notification,
    Priority,
    RequirementRef,
    RequirementState,
    StageState,
)
from pipeline.pauses import ALL, NAME, Pause, PauseKind

OPEN_HOLDS = (
    select(
        HoldRow.boundary,
        HoldRow.occurrence,
        HoldRow.workflow_id,
        HoldRow.account,
        HoldRow.budget,
        HoldRow.created_at,
    )
    .where(HoldRow.number == bindparam("number"), HoldRow.ended_at.is_(None))
    .order_by(HoldRow.created_at, HoldRow.boundary)
)
"""What a requirement is held by now."""


async def hold_back(write: RequirementWrite, hold: Hold, subscriber: str) -> Hold:
    """Record that the requirement waits; one that is BLOCKED stays so: its repair is held."""
    open_holds = await write.read(OPEN_HOLDS, number=write.number)
    if write.state in (RequirementState.RUNNING, RequirementState.ACCEPTED):
        write.move(RequirementState.HELD, why=hold.reason)
    if write.state is RequirementState.HELD:
        write.set(reason=hold.reason, waiting_for=", ".join(hold.by))
    for row in open_holds:
        if (row["boundary"], row["workflow_id"]) == (hold.boundary, subscriber):
            key = {name: row[name] for name in ("boundary", "occurrence")}
            key["number"] = write.number
            now = {
                "held_by": list(hold.by),
                "reason": hold.reason,
                "gate_version": hold.gate_version,
                "account": hold.account or None,
                "until": hold.until,
                "budget": hold.budget or None,
            }
            write.update(HoldRow, key, **now)
            return replace(hold, since=row["created_at"])
    await _begin(write, hold, subscriber)
    return hold


async def record_outage(write: RequirementWrite, hold: Hold, subscriber: str) -> None:
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
    occurrence = await _begin(write, hold, subscriber, ended_at=write.at)
    fields = {"round": write.row["round"], "stages": [hold.boundary], "who": ORCHESTRATOR}
    scope, kind = _scope(write, hold.boundary), EventType.WORKFLOW_RESUMED
    write.tell(scope, kind, {**fields, "why": why}, occurrence=occurrence)


async def record_hold(connection: AsyncConnection, held: Held) -> None:
    """A hold by a dependency is over; a repeat does nothing. Raises: UnknownRequirement."""
    write = await RequirementWrite.lock(connection, held.ref.number)
    await record_outage(write, held.hold, held.workflow_id)
    await write.flush()


async def _begin(
    write: RequirementWrite, hold: Hold, subscriber: str, ended_at: datetime | None = None
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
        gate_version=hold.gate_version,
        workflow_id=subscriber,
        created_at=hold.since,
        ended_at=ended_at,
        account=hold.account or None,
        until=hold.until,
        budget=hold.budget or None,
    )
    since = timestamp(hold.since)
    fields = {"boundary": hold.boundary, "heldBy": list(hold.by), "reason": hold.reason}
    scope, kind = _scope(write, hold.boundary), EventType.WORKFLOW_HELD
    write.tell(scope, kind, {**fields, "since": since}, occurrence=occurrence)
    return occurrence


async def let_go(
    write: RequirementWrite, subscriber: str, *, boundary: str = "", agents: bool = False
) -> None:
    """End the subscriber's holds at boundaries, or that of its running agents; it is said once.

    What passes one boundary passes all, except those where an account or a budget holds: `boundary`
    is the one that is over in any case. The requirement runs again, or waits for a host again,
    unless it is the agents' that is over and another one is not, or an account or a budget still
    holds a stage.
    """
    holds = await write.read(OPEN_HOLDS, number=write.number)
    mine = [
        row
        for row in holds
        if row["workflow_id"] == subscriber
        and agents == (row["boundary"] == PRE_EMPTION)
        and (not _is_apart(row) or row["boundary"] == boundary)
    ]
    if not mine:
        return
    names = [row["boundary"] for row in mine]
    over = (HoldRow.workflow_id == subscriber) & HoldRow.boundary.in_(names)
    write.update_all(end_holds(write).where(over))
    rest = [row for row in holds if row not in mine]
    is_held = rest if agents else any(map(_is_apart, rest))
    if write.state is not RequirementState.HELD or is_held:
        return
    why = "Nothing holds it any more."
    is_taken = write.row["workflow_run"] is not None
    write.move(RequirementState.RUNNING if is_taken else RequirementState.ACCEPTED, why=why)
    write.set(reason="", waiting_for="")
    fields = {"round": write.row["round"], "stages": names, "who": ORCHESTRATOR, "why": why}
    scope, occurrence = _scope(write, names[0]), mine[0]["occurrence"]
    write.tell(scope, EventType.WORKFLOW_RESUMED, fields, occurrence=occurrence)


def _is_apart(row: Mapping[str, Any]) -> bool:
    """Whether it holds that boundary alone: an account or a budget does."""
    return bool(row["account"] or row["budget"])


def end_boundary_holds(write: RequirementWrite) -> Update:
    """The requirement waits at no boundary any more; its agents may still be suspended."""
    return end_holds(write).where(HoldRow.boundary != PRE_EMPTION)


def end_holds(write: RequirementWrite) -> Update:
    """Nothing of the requirement waits any more."""
    mine = (HoldRow.number == write.number) & HoldRow.ended_at.is_(None)
    return update(HoldRow).where(mine).values(ended_at=write.at)


def free_of_account(write: RequirementWrite, boundary: str) -> Update:
    """No account or budget holds it there any more; its hold ends when it passes the next one."""
    there = (HoldRow.number == write.number) & (HoldRow.boundary == boundary)
    return (
        update(HoldRow).where(there & HoldRow.ended_at.is_(None)).values(account=None, budget=None)
    )


def _scope(write: RequirementWrite, boundary: str) -> str:
    return f"{write.number}/{write.row['workflow_run'] or 'no host'}/{boundary}"


# --- the P0 gate ----------------------------------------------------------------------------------

USER_ROUND = 0
"""The round of blockers that a user has named; the others belong to rounds of failures."""

# The exclusive side locks the table first; otherwise a stream of shared lockers starves it, because
# PostgreSQL does not queue new shared lockers of a row behind a waiting exclusive one.
_LOCK_TABLE = text(f"LOCK TABLE {P0GateRow.__tablename__} IN EXCLUSIVE MODE")
_SHARE = select(P0GateRow.gate_version).where(P0GateRow.id == 1).with_for_update(read=True)
_RAISE_VERSION = (
    update(P0GateRow)
    .where(P0GateRow.id == 1)
    .values(gate_version=P0GateRow.gate_version + 1)
    .returning(P0GateRow.gate_version)
)
# A fix has its requirement's priority and ends with it, so only requirements count.
OPEN_P0 = select(RequirementRow.number).where(
    RequirementRow.priority == str(Priority.P0),
    is_open(),
    RequirementRow.parent.is_(None),
)


PRE_EMPTING = OPEN_P0.where(RequirementRow.pre_empts)
"""The P0s that running agents are suspended for."""


def waited_for(first: Select[str]) -> Select[str]:
    """Those requirements and, transitively, the blockers they wait for."""
    tree = first.cte(recursive=True)
    blockers = select(BlockerRow.blocked_by).join(tree, BlockerRow.number == tree.c.number)
    return select(tree.union(blockers.where(BlockerRow.resolved_at.is_(None))).c.number)


def is_blocked(row: type[HoldRow | RequirementRow]) -> ColumnElement[bool]:
    """Whether a blocker that a user named is unresolved."""
    return exists().where(
        BlockerRow.number == row.number,
        BlockerRow.round == USER_ROUND,
        BlockerRow.resolved_at.is_(None),
    )


EXEMPT = waited_for(OPEN_P0)
"""Requirements that no P0 holds: open P0s, and the blockers they wait for."""
_OWN = select(BlockerRow.blocked_by).where(
    BlockerRow.number == bindparam("number"),
    BlockerRow.round == USER_ROUND,
    BlockerRow.resolved_at.is_(None),
)
# Both in one statement: every stage asks them before it starts.
_LOOK = select(
    func.array(_OWN.order_by(BlockerRow.blocked_by).scalar_subquery()).label("own"),
    func.array(OPEN_P0.order_by(RequirementRow.number).scalar_subquery()).label("urgent"),
)
# Also held by a P0, it is notified when that is over, and held by the account alone. A hold that
# does not tell what the account waits for any more is looked at again.
_WAITS_FOR_ACCOUNT = and_(
    func.cardinality(HoldRow.held_by) == 1,
    exists().where(
        AccountRow.account == HoldRow.account,
        case(
            (AccountRow.needs_human, HoldRow.until.is_(None)),
            (AccountRow.trying.is_not(None), HoldRow.until.is_not(None)),
            else_=and_(AccountRow.until > func.now(), HoldRow.until == AccountRow.until),
        ),
    ),
)
# One that waits for running agents to end looks again whenever it is told of anything.
_WAITS_FOR_BUDGET = and_(
    func.cardinality(HoldRow.held_by) == 1,
    exists().where(
        BudgetRow.scope == HoldRow.budget,
        BudgetRow.asked_at.is_not(None),
        or_(HoldRow.until.is_(None), HoldRow.until > func.now()),
    ),
)


def covering(number: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """Whether a pause is open, and is of that requirement, of what that fix repairs, or of all."""
    roots = select(FixRow.root).where(FixRow.number == number).correlate_except(FixRow)
    repaired = roots.scalar_subquery()
    of_it = or_(PauseRow.scope == ALL, PauseRow.scope == number, PauseRow.scope == repaired)
    return PauseRow.ended_at.is_(None) & of_it


def is_paused(row: type[RequirementRow]) -> ColumnElement[bool]:
    """Whether a human keeps everything of the requirement from starting."""
    return exists().where(covering(row.number), PauseRow.kind != str(PauseKind.DRAIN))


_PAUSED = (
    select(PauseRow.scope, PauseRow.kind, PauseRow.since, PauseRow.who)
    .where(covering(bindparam("number", type_=Text)))
    .order_by(PauseRow.scope)
)
_SUSPENDS = PauseRow.kind == str(PauseKind.SUSPEND)
_HOLDS_THERE = case(  # as `Pause.holds` says
    (HoldRow.boundary == PRE_EMPTION, _SUSPENDS),
    else_=or_(HoldRow.boundary == OPENING, PauseRow.kind != str(PauseKind.DRAIN)),
)
_PAUSES = func.array(
    select(literal(NAME, Text) + PauseRow.scope)
    .where(covering(HoldRow.number), _HOLDS_THERE)
    .order_by(PauseRow.scope)
    .scalar_subquery()
)
_held_by = func.unnest(HoldRow.held_by).table_valued("name", name="held_by_names").render_derived()
_TOLD_PAUSES = func.array(
    select(_held_by.c.name)
    .where(func.starts_with(_held_by.c.name, NAME))
    .order_by(_held_by.c.name)
    .scalar_subquery()
)
_ended = aliased(RequirementRow)
_STILL_BLOCKS = (
    exists()
    .where(
        BlockerRow.number == HoldRow.number,
        BlockerRow.blocked_by == _ended.number,
        BlockerRow.resolved_at.is_(None),
    )
    .correlate_except(BlockerRow)
)
# A hold that tells of other pauses than there are, or beside a pause of a P0 that has ended, is
# looked at again: it tells what holds it now, and is over if nothing does.
_TELLS_OTHERWISE = or_(
    _PAUSES != _TOLD_PAUSES,
    and_(
        func.cardinality(_TOLD_PAUSES) > 0,
        exists().where(
            _ended.number == any_(HoldRow.held_by),
            _ended.priority == str(Priority.P0),
            ~is_open(_ended),
            ~_STILL_BLOCKS,
        ),
    ),
)
_IN_LINE = select(DeliveryTurnRow.number).where(DeliveryTurnRow.left_at.is_(None))
_MAY_PROCEED = (
    select(HoldRow.workflow_id)
    .distinct()
    .join(RequirementRow, RequirementRow.number == HoldRow.number)
    .where(
        HoldRow.ended_at.is_(None),
        # The one before it in the delivery queue notifies it.
        HoldRow.number.not_in(_IN_LINE),
        or_(
            _TELLS_OTHERWISE,
            and_(
                func.cardinality(_PAUSES) == 0,
                ~_WAITS_FOR_ACCOUNT,
                ~_WAITS_FOR_BUDGET,
                # A blocker keeps new work from starting; suspended agents may resume.
                or_(~is_blocked(HoldRow), HoldRow.boundary == PRE_EMPTION),
                or_(
                    RequirementRow.priority == str(Priority.P0),
                    ~OPEN_P0.exists(),
                    and_(HoldRow.boundary == PRE_EMPTION, ~PRE_EMPTING.exists()),
                    HoldRow.number.in_(EXEMPT),
                ),
            ),
        ),
    )
    .order_by(HoldRow.workflow_id)
)


def gate_reads(number: str) -> tuple[Read, ...]:
    """The reads of `pass_gate`, in its order, to be sent with the requirement's lock."""
    of_it = {"number": number}
    return (_SHARE, {}), (_LOOK, of_it), (_PAUSED, of_it), (OPEN_HOLDS, of_it)


async def lock_gate(connection: AsyncConnection) -> int:
    """Take the exclusive lock until the transaction ends; returns the gate's new version."""
    await connection.execute(_LOCK_TABLE)
    return int((await connection.execute(_RAISE_VERSION)).scalar_one())


async def share_gate(write: RequirementWrite) -> int:
    """Take the shared lock until the transaction ends; returns the gate's version."""
    (gate,) = await write.read(_SHARE)
    return int(gate["gate_version"])


async def pass_gate(
    write: RequirementWrite, boundary: str, subscriber: str, outage: Hold | None = None
) -> Hold | None:
    """Take the shared lock; returns why nothing may start at that boundary, or None if it may.

    The hold's row is written, or ended. `subscriber` is the workflow to notify when it may
    continue. An `outage` that held it until now is recorded.

    Raises: IllegalTransition if the requirement has ended.
    """
    hold = await held_at_gate(write, boundary, subscriber, outage)
    if hold:
        return await hold_back(write, hold, subscriber)
    await let_go(write, subscriber)
    return None


async def held_at_gate(
    write: RequirementWrite, boundary: str, subscriber: str, outage: Hold | None
) -> Hold | None:
    """As `pass_gate`, but the hold is not written.

    Raises: IllegalTransition if the requirement has ended.
    """
    if write.state.is_final:
        raise IllegalTransition(f"{write.number} is {write.state}: {boundary} cannot begin.")
    if outage:
        await record_outage(write, outage, subscriber)
    gate_version = await share_gate(write)
    by, reason = await _holders(write, boundary)
    return Hold(boundary, by, reason, gate_version, write.at) if by else None


async def to_notify(connection: AsyncConnection) -> Notification:
    """The workflows whose holds at the gate are over."""
    gate_version = (await connection.execute(select(P0GateRow.gate_version))).scalar_one()
    return Notification(tuple((await connection.execute(_MAY_PROCEED)).scalars()), gate_version)


async def _holders(write: RequirementWrite, boundary: str) -> tuple[tuple[str, ...], str]:
    """Who holds it there, and why. A pause is a human's word: nothing is exempt from it."""
    (found,) = await write.read(_LOOK, number=write.number)
    own, urgent = tuple(found["own"]), tuple(found["urgent"])
    pauses = [pause for pause in await _pauses(write) if pause.holds(boundary)]
    by, reasons = [pause.name for pause in pauses], [pause.reason for pause in pauses]
    if own:
        by += own
        reasons.append(f"It is blocked by {', '.join(own)}.")
    elif urgent and not await is_exempt(write):
        by += urgent
        reasons.append(f"{', '.join(urgent)} {'is' if len(urgent) == 1 else 'are'} open and P0.")
    return tuple(by), " ".join(reasons)


async def _pauses(write: RequirementWrite) -> list[Pause]:
    return [
        Pause(row["scope"], PauseKind(row["kind"]), row["since"], row["who"])
        for row in await write.read(_PAUSED, number=write.number)
    ]


async def is_exempt(write: RequirementWrite) -> bool:
    """Whether the requirement is a P0, or an open P0 waits for it."""
    if write.row["priority"] == Priority.P0:
        return True
    waited = (await write.connection.execute(EXEMPT)).scalars()
    return write.number in set(waited)


# --- running agents are suspended for a P0 that pre-empts them, or by a pause ---------------------


async def apply_preemption(
    connection: AsyncConnection, ref: RequirementRef, subscriber: str
) -> Hold | None:
    """Whether the requirement's agents must be suspended, and by whom; None: they may run.

    Without agents there is nothing to suspend: whatever is to start is held at the gate.

    Raises: UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, ref.number)
    if write.state.is_final:  # it ended after it was told; its agents are ended, too
        return None
    gate_version = await share_gate(write)
    by, reason = await _suspending(write)
    if by and await _has_agents(connection, ref.number):
        hold = await hold_back(
            write, Hold(PRE_EMPTION, by, reason, gate_version, write.at), subscriber
        )
    else:
        hold = None
        await let_go(write, subscriber, agents=True)
    await write.flush()
    return hold


async def _suspending(write: RequirementWrite) -> tuple[tuple[str, ...], str]:
    """For whom its running agents are suspended, and why."""
    pauses = [pause for pause in await _pauses(write) if pause.holds(PRE_EMPTION)]
    by, reasons = [pause.name for pause in pauses], [pause.reason for pause in pauses]
    urgent = sorted((await write.connection.execute(PRE_EMPTING)).scalars())
    if urgent and not await is_exempt(write):
        by += urgent
        reasons.append(f"{', '.join(urgent)} pre-empts what runs.")
    return tuple(by), " ".join(reasons)


async def _has_agents(connection: AsyncConnection, number: str) -> bool:
    is_open = (RunRow.number == number) & (RunRow.state == str(StageState.RUNNING))
    return (
        await connection.execute(select(RunRow.run_id).where(is_open).limit(1))
    ).first() is not None


_HAS_AGENTS = exists().where(
    RunRow.number == RequirementRow.number, RunRow.state == str(StageState.RUNNING)
)
_IS_TOLD = exists().where(
    HoldRow.number == RequirementRow.number,
    HoldRow.boundary == PRE_EMPTION,
    HoldRow.ended_at.is_(None),
)


async def to_pre_empt(connection: AsyncConnection, *, missed: bool = False) -> tuple[str, ...]:
    """Every requirement and fix whose agents have to be suspended, for a P0 or by a pause.

    `missed`: only those whose agents run all the same, since the signal to them was lost.
    """
    is_pre_empted = and_(
        PRE_EMPTING.exists(),
        RequirementRow.priority != str(Priority.P0),
        RequirementRow.number.not_in(waited_for(PRE_EMPTING)),
    )
    is_suspended = exists().where(covering(RequirementRow.number), _SUSPENDS)
    query = (
        select(RequirementRow.number)
        .where(
            or_(is_pre_empted, is_suspended), is_open(), RequirementRow.workflow_run.is_not(None)
        )
        .order_by(RequirementRow.number)
    )
    if missed:
        query = query.where(_HAS_AGENTS, ~_IS_TOLD)
    return tuple((await connection.execute(query)).scalars())
