"""Queries behind the views of requirements: one with all that belongs to it, or many as lines."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Label,
    Select,
    Text,
    and_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute, aliased

from adapters.sdlc import budgets, costs
from adapters.sdlc.deliveries import standings
from adapters.sdlc.holds import covering
from adapters.sdlc.tables import (
    AccountRow,
    EscalationRow,
    EventRow,
    FailureRow,
    FixRow,
    GateRow,
    HoldRow,
    HostRow,
    LeftoverRow,
    MoveRow,
    PauseRow,
    PhaseRow,
    RequirementRow,
    RetryRow,
    RunRow,
    StageRow,
    is_open,
)
from pipeline.events import EventType, event_id
from pipeline.model import NO_COST, RequirementState, StageState, Turn
from pipeline.pauses import PauseKind
from pipeline.plan_rules import DELIVER

Query = Select[*tuple[Any, ...]]
Row = Mapping[str, Any]

_IS_ASKED = EscalationRow.answered_at.is_(None)


async def details(connection: AsyncConnection, number: str) -> Row | None:
    """A requirement's row with everything that its status shows; None if there is none."""
    found = await rows(connection, select(RequirementRow).where(RequirementRow.number == number))
    if not found:
        return None
    open_failures = failures(number).where(FailureRow.resolved_at.is_(None))
    question = select(EscalationRow).where(EscalationRow.number == number, _IS_ASKED)
    asked = await rows(connection, question)
    held = await rows(connection, holds(number))
    fixes = await rows(connection, _fixes(number))
    spent = await costs.of_stages(connection, [number, *(fix["number"] for fix in fixes)])
    (row,) = await in_line(connection, found)
    open_holds = [_of_turn(hold, row) for hold in held if hold["ended_at"] is None]
    project = row["plan"].get("project")
    return {
        **row,
        "project": project["path"] if project else "",
        "stages": [
            {**_logged(row), "cost": spent.get((number, row["stage"]), NO_COST)}
            for row in await rows(connection, _stages(number))
        ],
        "cost": sum(spent.values(), NO_COST),
        "budgets": await budgets.of_requirement(connection, number),
        "gates": await rows(connection, _gates(number)),
        "failures": await rows(connection, open_failures),
        "fixes": [{**fix, "cost": costs.of_number(spent, fix["number"])} for fix in fixes],
        "holds": open_holds,
        "past_holds": [hold for hold in held if hold["ended_at"] is not None],
        "holders": await _holders(connection, open_holds),
        "queued": await rows(connection, queued(number)),
        "building": await rows(connection, building([number])),
        "pauses": await rows(connection, pauses([number])),
        "escalation": asked[0] if asked else None,
        "retries": await rows(connection, _retries(number, fixes)),
        "moves": await rows(connection, _moves(number)),
        "leftover": next(iter(await rows(connection, leftovers(number))), None),
    }


def listed(columns: Sequence[Any]) -> Query:
    """Those columns of requirements, since when each waits, for whom, and what a human is asked."""
    is_open = and_(EscalationRow.number == RequirementRow.number, _IS_ASKED)
    asks = func.coalesce(EscalationRow.asks, func.jsonb_build_array()).label("asks")
    project = func.coalesce(RequirementRow.plan["project"]["path"].astext, "").label("project")
    found = select(*columns, _waiting_since(), _held_by(), asks, project)
    return found.outerjoin(EscalationRow, is_open)


def under_way() -> Query:
    """The numbers of all requirements that have not ended, oldest first, without fixes."""
    of_all = select(RequirementRow.number).where(is_open(), RequirementRow.parent.is_(None))
    return of_all.order_by(RequirementRow.created_at, RequirementRow.number)


def versions(numbers: Sequence[str]) -> Query:
    """Columns of which some differ if a requirement, one of its fixes or its retries changed."""
    fix = aliased(RequirementRow)
    fixes = select(func.max(fix.updated_at)).join(FixRow, FixRow.number == fix.number)
    of_fixes = fixes.where(FixRow.root == RequirementRow.number).scalar_subquery()
    retried = RetryRow.number == RequirementRow.number
    last_retry = select(func.max(RetryRow.last_at)).where(retried).scalar_subquery()
    steps = select(func.count()).where(retried).scalar_subquery()
    return select(
        RequirementRow.number,
        RequirementRow.updated_at,
        of_fixes.label("of_fixes"),
        last_retry.label("last_retry"),
        steps.label("steps"),
    ).where(RequirementRow.number.in_(numbers))


def failures(number: str) -> Query:
    """Every failure of a requirement in the order of the reports."""
    return (
        select(FailureRow)
        .where(FailureRow.number == number)
        .order_by(FailureRow.round, FailureRow.seq)
    )


def holds(number: str) -> Query:
    """Every hold of a requirement in order."""
    since = HoldRow.created_at.label("since")
    return (
        select(
            HoldRow.boundary,
            HoldRow.held_by,
            HoldRow.reason,
            since,
            HoldRow.ended_at,
            HoldRow.account,
            HoldRow.until,
            HoldRow.budget,
        )
        .where(HoldRow.number == number)
        .order_by(HoldRow.created_at, HoldRow.boundary)
    )


async def accounts(connection: AsyncConnection) -> Sequence[Row]:
    """Every account that cannot work now, longest first, with the stages that wait for it."""
    found = await rows(connection, select(AccountRow).order_by(AccountRow.since))
    stage, since = HoldRow.boundary.label("stage"), HoldRow.created_at.label("since")
    held = select(HoldRow.account, HoldRow.number, stage, since)
    of_accounts = held.where(HoldRow.account.is_not(None), HoldRow.ended_at.is_(None))
    waiting = await rows(connection, of_accounts.order_by(since, HoldRow.number, stage))
    return [
        {**row, "held": [each for each in waiting if each["account"] == row["account"]]}
        for row in found
    ]


def queued(*numbers: str) -> Query:
    """Stages of those requirements that wait for a slot, with their place on the host."""
    order = (
        RequirementRow.priority,
        StageRow.remaining_minutes.desc(),
        StageRow.queued_at,
        StageRow.number,
        StageRow.position,
    )
    everybody = (
        select(
            StageRow.number,
            StageRow.stage,
            StageRow.queued_at.label("since"),
            RequirementRow.host,
            func.row_number().over(partition_by=RequirementRow.host, order_by=order).label("place"),
            func.count().over(partition_by=RequirementRow.host).label("waiting"),
        )
        .join(RequirementRow, RequirementRow.number == StageRow.number)
        .where(StageRow.queued_at.is_not(None), is_open())
        .subquery()
    )
    slots = (HostRow.used, HostRow.slots, HostRow.configured, HostRow.why)
    return (
        select(*everybody.columns, *slots)
        .outerjoin(HostRow, HostRow.host == everybody.columns.host)
        .where(everybody.columns.number.in_(numbers))
        .order_by(everybody.columns.place)
    )


def building(numbers: Sequence[str]) -> Query:
    """Builds of those requirements that are under way: started, and neither ended nor held.

    One whose infrastructure failed has no evidence, but a failure that came after its start.
    """
    told = EventRow.payload
    number, started_at = EventRow.number, EventRow.created_at
    build = told["build"].astext
    gate = literal("build ", Text) + build
    started = GateRow.gate_id + literal(event_id("", EventType.BUILD_STARTED), Text)
    of_it = (GateRow.number == number, started == EventRow.event_id)
    is_held = (HoldRow.number == number, HoldRow.boundary == gate, HoldRow.ended_at.is_(None))
    has_failed = (FailureRow.number == number, FailureRow.gate == gate)
    return (
        select(
            number,
            build.label("build"),
            told["stage"].astext.label("stage"),
            told["agent"].astext.label("agent"),
            told["commit"].astext.label("commit"),
            started_at.label("started_at"),
        )
        .join(RequirementRow, RequirementRow.number == number)
        .where(
            number.in_(numbers),
            EventRow.type == str(EventType.BUILD_STARTED),
            is_open(),
            ~exists().where(*of_it),
            ~exists().where(*is_held),
            ~exists().where(*has_failed, FailureRow.created_at >= started_at),
        )
        .order_by(EventRow.id)
    )


def preparing(numbers: Sequence[str]) -> Query:
    """Stages of those requirements whose clones are being prepared, longest first."""
    since = RunRow.prepare_started_at
    return (
        select(StageRow.number, StageRow.stage, since.label("since"))
        .join(RunRow, RunRow.run_id == StageRow.run_id)
        .where(
            StageRow.number.in_(numbers),
            StageRow.state == str(StageState.RUNNING),
            since.is_not(None),
            RunRow.prepare_ended_at.is_(None),
        )
        .order_by(since)
    )


def pauses(numbers: Sequence[str]) -> Query:
    """What a human keeps each of those requirements from; nothing of one that has ended."""
    return (
        select(RequirementRow.number, PauseRow.scope, PauseRow.kind, PauseRow.since, PauseRow.who)
        .join(PauseRow, covering(RequirementRow.number))
        .where(RequirementRow.number.in_(numbers), is_open(), _concerns())
        .order_by(PauseRow.scope)
    )


def is_paused() -> ColumnElement[bool]:
    """Whether a human keeps something of the requirement from starting."""
    return and_(is_open(), exists().where(covering(RequirementRow.number), _concerns()))


def _concerns() -> ColumnElement[bool]:
    """A host that takes nothing new is no matter of those that one has taken."""
    is_new = RequirementRow.workflow_run.is_(None)
    return or_(PauseRow.kind != str(PauseKind.DRAIN), is_new)


def is_queued() -> ColumnElement[bool]:
    """Whether some stage of the requirement waits for a slot."""
    waits = (StageRow.number == RequirementRow.number) & StageRow.queued_at.is_not(None)
    return and_(exists().where(waits), is_open())


def retries() -> Query:
    """Every step that is tried again now, longest first."""
    return select(RetryRow).order_by(RetryRow.since, RetryRow.workflow_id, RetryRow.activity_id)


def leftovers(number: str = "") -> Query:
    """What that requirement has left, or all that is left still."""
    query = select(LeftoverRow).order_by(LeftoverRow.created_at, LeftoverRow.number)
    mine = LeftoverRow.number == number if number else LeftoverRow.cleaned_at.is_(None)
    return query.where(mine)


def _moves(number: str) -> Query:
    columns = (MoveRow.lost, MoveRow.host, MoveRow.head_commit, MoveRow.at, MoveRow.cleaned_at)
    return select(*columns).where(MoveRow.number == number).order_by(MoveRow.at)


def is_retried() -> ColumnElement[bool]:
    """Whether a step of the requirement is tried again now."""
    return select(RetryRow.number).where(RetryRow.number == RequirementRow.number).exists()


async def rows(connection: AsyncConnection, query: Query) -> Sequence[Row]:
    """What a query finds, as plain mappings."""
    return [dict(row) for row in (await connection.execute(query)).mappings()]


async def in_line(connection: AsyncConnection, found: Sequence[Row]) -> Sequence[Row]:
    """Requirements' rows; one that waits for its turn to deliver with its place as of now.

    The line moves on without a word to those who wait: what their rows say is of when they came.
    """
    if not any(row["state"] == RequirementState.HELD for row in found):
        return [{**row, "turn": None} for row in found]
    turns = await standings(connection)
    return [_with_turn(row, turns.get(row["number"])) for row in found]


def _with_turn(row: Row, turn: Turn | None) -> Row:
    if turn is None or row["state"] != RequirementState.HELD:
        return {**row, "turn": None}
    shown = {**row, "turn": turn, "reason": turn.text, "waiting_for": turn.behind}
    if "held_by" in row:
        shown["held_by"] = [turn.behind] if turn.behind else []
    return shown


def _of_turn(hold: Row, row: Row) -> Row:
    """An open hold; that of a delivery which waits for its turn says what the row says."""
    turn: Turn | None = row["turn"]
    if turn is None or hold["boundary"] != DELIVER:
        return hold
    return {**hold, "held_by": [turn.behind] if turn.behind else [], "reason": turn.text}


async def _holders(connection: AsyncConnection, open_holds: Sequence[Row]) -> Sequence[Row]:
    """Requirements that hold it; a dependency that is down is none."""
    names = {name for hold in open_holds for name in hold["held_by"]}
    if not names:
        return []
    query = select(RequirementRow.number, RequirementRow.state)
    return await rows(
        connection, query.where(RequirementRow.number.in_(names)).order_by(RequirementRow.number)
    )


def _stages(number: str) -> Query:
    return (
        select(
            *StageRow.__table__.columns,
            *(RunRow.log_reference, RunRow.remarks, RunRow.session),
            *(RunRow.prepared, RunRow.prepare_started_at, RunRow.prepare_ended_at),
            *(_counted(number, RunRow.starts), _counted(number, RunRow.resumes)),
        )
        .outerjoin(RunRow, RunRow.run_id == StageRow.run_id)
        .where(StageRow.number == number)
        .order_by(StageRow.position)
    )


def _gates(number: str) -> Query:
    return (
        select(GateRow).where(GateRow.number == number).order_by(GateRow.ended_at, GateRow.gate_id)
    )


def _fixes(number: str) -> Query:
    """All that stands below a requirement or a fix by parent links."""
    below = select(RequirementRow.number).where(RequirementRow.parent == number)
    tree = below.cte(recursive=True)
    child = aliased(RequirementRow)
    tree = tree.union_all(select(child.number).where(child.parent == tree.c.number))
    return (
        select(RequirementRow, FixRow.depth, FixRow.gate)
        .join(FixRow, FixRow.number == RequirementRow.number)
        .where(RequirementRow.number.in_(select(tree.c.number)))
        .order_by(RequirementRow.created_at, func.length(RequirementRow.number), FixRow.number)
    )


def _retries(number: str, fixes: Sequence[Row]) -> Query:
    return retries().where(RetryRow.number.in_([number, *(fix["number"] for fix in fixes)]))


def _waiting_since() -> Label[Any]:
    """When a human was asked, else when the requirement came into its state."""
    phases = select(func.max(PhaseRow.at)).where(
        PhaseRow.number == RequirementRow.number, PhaseRow.stage == ""
    )
    since = func.coalesce(EscalationRow.created_at, phases.scalar_subquery())
    return case((RequirementRow.waiting_for != "", since)).label("waiting_since")


def _held_by() -> Label[Any]:
    """Who holds it at some boundary: also of one that is BLOCKED, whose repair is held."""
    of_it = (HoldRow.number == RequirementRow.number) & HoldRow.ended_at.is_(None)
    by = select(func.unnest(HoldRow.held_by).label("by")).where(of_it).distinct().order_by("by")
    return func.array(by.scalar_subquery()).label("held_by")


def _counted(number: str, what: InstrumentedAttribute[int]) -> Label[int]:
    """Starts of a stage's agent, or resumptions, over all attempts, one that runs included."""
    runs = aliased(RunRow)
    counted = select(func.coalesce(func.sum(getattr(runs, what.key)), 0))
    of_stage = counted.where(runs.number == number, runs.stage == StageRow.stage)
    return of_stage.scalar_subquery().label(what.key)


def _logged(row: Row) -> Row:
    """A stage that never ran has no log, and nothing that was told of it."""
    return {
        **row,
        "log_reference": row["log_reference"] or "",
        "remarks": row["remarks"] or (),
        "session": row["session"] or "",
        "prepared": row["prepared"] or (),
    }
