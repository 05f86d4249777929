"""The line: while a P0 is open, nothing of lower priority starts but what it waits for.

Whoever opens a stage takes the gate's row FOR SHARE and looks in a later statement (READ COMMITTED:
it sees what was committed until then); whoever opens or closes a P0, or moves a blocker, takes it
FOR UPDATE and raises its epoch. So no stage slips through beside a P0 that is being opened.
Requirements' rows are locked before the gate, users' blockers after it, by everybody: so nobody
waits in a circle.
"""

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Select,
    Text,
    all_,
    and_,
    bindparam,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.holding import OPEN_HOLDS, hold_back, let_go, record_outage
from adapters.sdlc.reads import Read
from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import (
    BlockerRow,
    DeliveryTurnRow,
    HoldRow,
    LineRow,
    RequirementRow,
)
from pipeline.errors import IllegalTransition
from pipeline.model import PRE_EMPTION, Hold, Priority, RequirementState, Wake

USER_ROUND = 0
"""The round of blockers that a user has named; the others belong to rounds of failures."""

_FINAL = [str(state) for state in RequirementState if state.is_final]
HAS_NOT_ENDED = RequirementRow.state != all_(literal(_FINAL, ARRAY(Text)))

# A row that is shared without a pause is never free for its owner: new sharers do not queue behind
# him. This lock conflicts with that of their FOR SHARE on the table, and there they do.
_NEXT = text(f"LOCK TABLE {LineRow.__tablename__} IN EXCLUSIVE MODE")
_SHARE = select(LineRow.epoch).where(LineRow.id == 1).with_for_update(read=True)
_MOVE = (
    update(LineRow).where(LineRow.id == 1).values(epoch=LineRow.epoch + 1).returning(LineRow.epoch)
)
# A fix has its requirement's priority, and is over when that is.
OPEN_P0 = select(RequirementRow.number).where(
    RequirementRow.priority == str(Priority.P0),
    HAS_NOT_ENDED,
    RequirementRow.parent.is_(None),
)


PRE_EMPTING = OPEN_P0.where(RequirementRow.pre_empts)
"""Those that running agents stand still for."""


def waited_for(first: Select[str]) -> Select[str]:
    """Those numbers and, transitively, what they wait for."""
    tree = first.cte(recursive=True)
    blockers = select(BlockerRow.blocked_by).join(tree, BlockerRow.number == tree.c.number)
    return select(tree.union(blockers.where(BlockerRow.resolved_at.is_(None))).c.number)


def is_blocked(row: type[HoldRow | RequirementRow]) -> ColumnElement[bool]:
    """Whether the requirement waits for others that a user has named."""
    return exists().where(
        BlockerRow.number == row.number,
        BlockerRow.round == USER_ROUND,
        BlockerRow.resolved_at.is_(None),
    )


EXEMPT = waited_for(OPEN_P0)
"""What no P0 holds: they are, or an open one waits for them."""
_OWN = select(BlockerRow.blocked_by).where(
    BlockerRow.number == bindparam("number"),
    BlockerRow.round == USER_ROUND,
    BlockerRow.resolved_at.is_(None),
)
# One trip for both: they are looked at before every stage.
_LOOK = select(
    func.array(_OWN.order_by(BlockerRow.blocked_by).scalar_subquery()).label("own"),
    func.array(OPEN_P0.order_by(RequirementRow.number).scalar_subquery()).label("urgent"),
)
_IN_LINE = select(DeliveryTurnRow.number).where(DeliveryTurnRow.left_at.is_(None))
_MAY_GO_ON = (
    select(HoldRow.workflow_id)
    .distinct()
    .join(RequirementRow, RequirementRow.number == HoldRow.number)
    .where(
        HoldRow.ended_at.is_(None),
        # Whoever waits for a turn is woken by those before it.
        HoldRow.number.not_in(_IN_LINE),
        # Agents that run have what they needed.
        or_(~is_blocked(HoldRow), HoldRow.boundary == PRE_EMPTION),
        or_(
            RequirementRow.priority == str(Priority.P0),
            ~OPEN_P0.exists(),
            and_(HoldRow.boundary == PRE_EMPTION, ~PRE_EMPTING.exists()),
            HoldRow.number.in_(EXEMPT),
        ),
    )
    .order_by(HoldRow.workflow_id)
)


def gate_reads(number: str) -> tuple[Read, ...]:
    """What `pass_line` reads, in its order, to be read ahead: who looks has shared the gate."""
    return (_SHARE, {}), (_LOOK, {"number": number}), (OPEN_HOLDS, {"number": number})


async def move_line(connection: AsyncConnection) -> int:
    """Own the gate until the transaction ends, before all who come to share it; its new epoch."""
    await connection.execute(_NEXT)
    return int((await connection.execute(_MOVE)).scalar_one())


async def share_line(write: RequirementWrite) -> int:
    """Share the gate until the transaction ends: what is looked at then holds. Its epoch."""
    (gate,) = await write.read(_SHARE)
    return int(gate["epoch"])


async def pass_line(
    write: RequirementWrite, boundary: str, waiter: str, outage: Hold | None = None
) -> Hold | None:
    """Share the gate until the transaction ends; why the boundary must not be passed, or None.

    Holds begin and end with it. `waiter` is the workflow to wake; an `outage` that has held it
    until now is recorded.

    Raises: IllegalTransition if the requirement has ended.
    """
    hold = await held_at_gate(write, boundary, waiter, outage)
    if hold:
        return await hold_back(write, hold, waiter)
    await let_go(write, waiter)
    return None


async def held_at_gate(
    write: RequirementWrite, boundary: str, waiter: str, outage: Hold | None
) -> Hold | None:
    """The hold of `pass_line`, before it is written.

    Raises: IllegalTransition if the requirement has ended.
    """
    if write.state.is_final:
        raise IllegalTransition(f"{write.number} is {write.state}: {boundary} cannot begin.")
    if outage:
        await record_outage(write, outage, waiter)
    epoch = await share_line(write)
    by, reason = await _holders(write)
    return Hold(boundary, by, reason, epoch, write.at) if by else None


async def to_wake(connection: AsyncConnection) -> Wake:
    """Everybody who is held and may go on."""
    epoch = (await connection.execute(select(LineRow.epoch))).scalar_one()
    return Wake(tuple((await connection.execute(_MAY_GO_ON)).scalars()), epoch)


async def _holders(write: RequirementWrite) -> tuple[tuple[str, ...], str]:
    (found,) = await write.read(_LOOK, number=write.number)
    own, urgent = tuple(found["own"]), tuple(found["urgent"])
    if own:
        return own, f"It is blocked by {', '.join(own)}."
    if not urgent or await is_exempt(write):
        return (), ""
    are = "is" if len(urgent) == 1 else "are"
    return urgent, f"{', '.join(urgent)} {are} open and P0."


async def is_exempt(write: RequirementWrite) -> bool:
    """Whether no P0 holds the requirement: it is one, or an open one waits for it."""
    if write.row["priority"] == Priority.P0:
        return True
    waited = (await write.connection.execute(EXEMPT)).scalars()
    return write.number in set(waited)
