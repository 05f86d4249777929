"""Budgets: what is spent of them, who is held by one, and what raises it.

A stage that opens looks at its requirement's budget and at that of the day, with its slot in hand,
after the P0 gate. Of several that open at once, each sees what the others have reserved: they take
an advisory lock for each budget. A run that closes takes the gate exclusively, so none opens beside
it: what it has cost is exact when the budget warns, and who waits for its reservation is notified.

Lock order: the requirements' rows, the gate, a requirement's budget, that of the day, accounts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, case, delete, func, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc import holds
from adapters.sdlc.tables import BudgetRow, CostRow, FixRow, HoldRow, RequirementRow, RunRow
from adapters.sdlc.transaction import Read, RequirementWrite, read_together
from pipeline import budgets as rules
from pipeline.budgets import ALL_DAYS, Budget, RunBudget, beginning_of_day, scope_of_day
from pipeline.costs import dollars
from pipeline.errors import RefusedInput
from pipeline.events import EventType, escalation_event, timestamp
from pipeline.model import Cost, Hold, StageState

Row = Mapping[str, Any]

_NUMBER = bindparam("number", type_=Text)
_REPAIRED = select(FixRow.root).where(FixRow.number == _NUMBER)
_ROOT = select(func.coalesce(_REPAIRED.scalar_subquery(), _NUMBER))
_BOUNDS = RequirementRow.plan["pipeline"]["bounds"]
_OF_REQUIREMENT = (
    select(
        RequirementRow.number.label("scope"),
        func.coalesce(BudgetRow.usd, _BOUNDS["usd"].as_float()).label("usd"),
        case(
            (BudgetRow.usd.is_not(None), BudgetRow.warn_usd),
            else_=_BOUNDS["warn_usd"].as_float(),
        ).label("warn_usd"),
        BudgetRow.warned_at,
        BudgetRow.asked_at,
    )
    .outerjoin(BudgetRow, BudgetRow.scope == RequirementRow.number)
    .where(RequirementRow.number == _ROOT.scalar_subquery())
)
"""The limits of a requirement, or of the one that a fix repairs."""
_OF_DAYS = select(*BudgetRow.__table__.columns).where(
    or_(BudgetRow.scope == ALL_DAYS, BudgetRow.scope == bindparam("day", type_=Text))
)
_LOCK = select(func.pg_advisory_xact_lock(func.hashtextextended(bindparam("name", type_=Text), 0)))


def _sums(costs: ColumnElement[bool], runs: ColumnElement[bool]) -> Any:
    """What is spent, and what other running agents may cost."""
    spent = select(func.coalesce(func.sum(CostRow.usd), 0.0)).where(costs)
    is_running = (RunRow.state == str(StageState.RUNNING)) & RunRow.reserved_usd.is_not(None)
    reserved = select(func.coalesce(func.sum(RunRow.reserved_usd), 0.0)).where(
        is_running, RunRow.run_id != bindparam("run_id", type_=Text), runs
    )
    return select(
        spent.scalar_subquery().label("spent"), reserved.scalar_subquery().label("reserved")
    )


def _belongs(number: Any) -> ColumnElement[bool]:
    """Whether it is the requirement's, or one of its fixes'."""
    fixes = select(FixRow.number).where(FixRow.root == _NUMBER)
    return or_(number == _NUMBER, number.in_(fixes))


_SPENT = _sums(_belongs(CostRow.number), _belongs(RunRow.number))
_SPENT_OF_DAY = _sums(CostRow.at >= bindparam("begin"), RunRow.run_id.is_not(None))

# --- a stage opens --------------------------------------------------------------------------------


def budget_reads(number: str) -> tuple[Read, ...]:
    """The reads of `held_by_budget`, to be sent with the requirement's lock."""
    day = scope_of_day(datetime.now(UTC))
    return (_OF_REQUIREMENT, {"number": number}), (_OF_DAYS, {"day": day})


async def held_by_budget(
    write: RequirementWrite, boundary: str, run_id: str, run: RunBudget, *, has_slot: bool
) -> tuple[Hold | None, float | None]:
    """What holds a run that would start; and if nothing does, what it may cost at most.

    A budget that is spent asks a human, once. One without room beside what running agents may cost
    holds until one has ended; a run that has no slot yet may be queued for it meanwhile.
    """
    limited = [budget.scope for budget in await _find(write) if budget.limit is not None]
    if not limited:
        return None, rules.highest(run, ())
    for scope in limited:
        await write.read(_LOCK, name=f"budget {scope}")
    now = [budget for budget in await _find(write) if budget.scope in limited]
    found = [await _load(write, budget, run_id) for budget in now]
    for budget in found:
        if budget.is_spent:
            await _ask(write, budget)
            until = rules.end_of_day(write.at) if budget.is_of_day else None
            reason = rules.is_spent(budget, write.number)
        elif has_slot and not budget.has_room:
            until, reason = write.at + rules.WAIT, rules.awaits_room(budget)
        else:
            continue
        version = await holds.share_gate(write)
        by = (budget.name,)
        hold = Hold(boundary, by, reason, version, write.at, until=until, budget=budget.scope)
        return hold, None
    return None, rules.highest(run, tuple(found))


async def _find(write: RequirementWrite) -> tuple[Budget, ...]:
    """The budgets that a requirement's run counts in, without what is spent."""
    own = await write.read(_OF_REQUIREMENT, number=write.number)
    days = await write.read(_OF_DAYS, day=scope_of_day(write.at))
    return _limits(own, days, write.at)


def _limits(own: Sequence[Row], days: Sequence[Row], at: datetime) -> tuple[Budget, ...]:
    today = scope_of_day(at)
    by_scope = {row["scope"]: row for row in days}
    usual, raised = by_scope.get(ALL_DAYS), by_scope.get(today)
    of_day = {"scope": today, "usd": None, "warn_usd": None, "warned_at": None, "asked_at": None}
    if usual:
        of_day |= {"usd": usual["usd"], "warn_usd": usual["warn_usd"]}
    if raised:
        of_day |= {"warned_at": raised["warned_at"], "asked_at": raised["asked_at"]}
        if raised["usd"] is not None:
            of_day |= {"usd": raised["usd"], "warn_usd": raised["warn_usd"]}
    rows = (*own, of_day)
    return tuple(
        _budget(row) for row in rows if row["usd"] is not None or row["warn_usd"] is not None
    )


def _budget(row: Row) -> Budget:
    return Budget(
        row["scope"],
        row["usd"],
        row["warn_usd"],
        is_warned=row["warned_at"] is not None,
        is_asked=row["asked_at"] is not None,
    )


async def _load(write: RequirementWrite, budget: Budget, run_id: str) -> Budget:
    statement, values = _spending(budget, write.at, run_id)
    (row,) = await write.read(statement, **values)
    return replace(budget, spent=row["spent"], reserved=row["reserved"])


def _spending(budget: Budget, at: datetime, run_id: str) -> Read:
    """The read of what is spent of a budget, and reserved by other runs than that."""
    if budget.is_of_day:
        return _SPENT_OF_DAY, {"begin": beginning_of_day(at), "run_id": run_id}
    return _SPENT, {"number": budget.scope, "run_id": run_id}


async def _ask(write: RequirementWrite, budget: Budget) -> None:
    if budget.is_asked:
        return
    await _mark(write.connection, budget.scope, asked_at=write.at)
    fields = {**_fields(budget), "reason": rules.is_spent(budget, write.number)}
    scope = _event_scope(budget, write.at)
    write.tell(scope, EventType.BUDGET_REACHED, fields)
    kind = EventType.BUDGET_ESCALATION
    write.emit(escalation_event(kind, scope, write.number, write.at, fields))


# --- a run closes ---------------------------------------------------------------------------------


async def count_in_budgets(write: RequirementWrite, run_id: str, cost: Cost) -> bool:
    """Warn of the budgets that this cost brings near their limits; each warns once.

    Returns whether somebody is held by one of them, and has to look again.
    """
    if not await _find(write):
        return False
    await holds.lock_gate(write.connection)
    found = await _find(write)  # as others have left them
    for limits in found:
        budget = await _load(write, limits, run_id)
        budget = replace(budget, spent=budget.spent + (cost.usd or 0.0))
        if budget.must_warn:
            await _mark(write.connection, budget.scope, warned_at=write.at)
            fields = {**_fields(budget), "reason": rules.warns(budget)}
            write.tell(_event_scope(budget, write.at), EventType.BUDGET_WARNING, fields)
    held = select(HoldRow.number).where(
        HoldRow.budget.in_([budget.scope for budget in found]), HoldRow.ended_at.is_(None)
    )
    return (await write.connection.execute(held.limit(1))).first() is not None


# --- limits change --------------------------------------------------------------------------------


async def raise_budget(
    connection: AsyncConnection, number: str, usd: float, who: str, *, of_day: bool
) -> Budget:
    """Raise the budget of a requirement, or of today; a fix has that of what it repairs.

    Raises: RefusedInput if there is none, or that would not raise it beyond what is spent;
        UnknownRequirement.
    """
    root = (await connection.execute(_ROOT, {"number": number})).scalar_one()
    write = await RequirementWrite.lock(connection, root)
    if write.state.is_final:
        raise RefusedInput(f"{root} has ended: it is {write.state}.")
    await holds.lock_gate(connection)
    budget = next((b for b in await _find(write) if b.is_of_day == of_day), None)
    if budget is None or budget.limit is None:
        whose = "The day" if of_day else root
        raise RefusedInput(f"{whose} has no budget that could be raised.")
    limit, budget = budget.limit, await _load(write, budget, "")
    if usd <= limit or replace(budget, limit=usd).is_spent:
        raise RefusedInput(
            f"{dollars(usd)} does not raise the {budget.name}: {budget.used} are spent. Name more."
        )
    row = {"usd": usd, "warn_usd": None, "warned_at": None, "asked_at": None, "who": who}
    await _mark(connection, budget.scope, **row)
    raised = replace(budget, limit=usd, warn=None)
    write.tell(_event_scope(budget, write.at), EventType.BUDGET_RAISED, _fields(raised, who=who))
    await write.flush()
    return raised


async def set_day_budget(
    connection: AsyncConnection, usd: float | None, warn_usd: float | None
) -> bool:
    """What every day may cost from now on; whether that is something else than before."""
    query = select(BudgetRow.usd, BudgetRow.warn_usd).where(BudgetRow.scope == ALL_DAYS)
    row = (await connection.execute(query)).first()
    if (tuple(row) if row else (None, None)) == (usd, warn_usd):
        return False
    await holds.lock_gate(connection)
    if usd is None and warn_usd is None:
        await connection.execute(delete(BudgetRow).where(BudgetRow.scope == ALL_DAYS))
    else:
        await _mark(connection, ALL_DAYS, usd=usd, warn_usd=warn_usd)
    # What a human has raised today was for the budget before.
    await connection.execute(
        delete(BudgetRow).where(BudgetRow.scope == scope_of_day(datetime.now(UTC)))
    )
    return True


async def _mark(connection: AsyncConnection, scope: str, **values: object) -> None:
    row = insert(BudgetRow).values(scope=scope, **values)
    await connection.execute(row.on_conflict_do_update(index_elements=["scope"], set_=values))


# --- what is shown --------------------------------------------------------------------------------


async def of_requirement(connection: AsyncConnection, number: str) -> tuple[Budget, ...]:
    """The budgets that a requirement's runs count in, with what is spent of each."""
    at = datetime.now(UTC)
    own, days = await read_together(
        connection,
        (_OF_REQUIREMENT, {"number": number}),
        (_OF_DAYS, {"day": scope_of_day(at)}),
    )
    found = []
    for budget in _limits(own, days, at):
        statement, values = _spending(budget, at, "")
        ((row,),) = await read_together(connection, (statement, values))
        found.append(replace(budget, spent=row["spent"], reserved=row["reserved"]))
    return tuple(found)


def _fields(budget: Budget, **more: object) -> dict[str, object]:
    return {
        "budget": budget.scope,
        "limitUsd": budget.limit,
        "spentUsd": round(budget.spent, 6),
        **more,
    }


def _event_scope(budget: Budget, at: datetime) -> str:
    return f"budget/{budget.scope}/{timestamp(at)}"
