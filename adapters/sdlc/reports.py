"""Rows for the reports: of one requirement, of many, and of a delivery for its pull request."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache, partial
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import ARRAY, CTE, ColumnElement, Text, any_, cast, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc import costs, queries
from adapters.sdlc.costs import COST_COLUMNS, cost_of_row
from adapters.sdlc.durations import durations_of
from adapters.sdlc.performance import measure_many
from adapters.sdlc.requirements import ORDER
from adapters.sdlc.tables import (
    CostRow,
    DeliveryTurnRow,
    EscalationRow,
    FailureRow,
    FixRow,
    GateRow,
    HoldRow,
    PhaseRow,
    RequirementRow,
    RunRow,
    StageRow,
)
from pipeline.delivery_report import (
    DeliveryFacts,
    ReportedFailure,
    ReportedFix,
    ReportedGate,
    ReportedStage,
)
from pipeline.errors import UnknownRequirement
from pipeline.history import BuildTimes, History, RunTimes, Wait, WaitKind, lifetime
from pipeline.model import (
    NO_COST,
    FailureKind,
    Interval,
    Mode,
    Pipeline,
    RequirementState,
    StageState,
)
from pipeline.rates import FailureFact, Outcome, Rates, RunFact, rates
from pipeline.report import RequirementFacts, planned_schedule
from pipeline.schedule import Schedule

Rows = Sequence[Mapping[str, Any]]

_PIPELINE = TypeAdapter(Pipeline)

# --- one requirement ------------------------------------------------------------------------------


async def facts_of(connection: AsyncConnection, number: str, now: datetime) -> RequirementFacts:
    """What the rows tell of a requirement, of its fixes and of what both cost.

    Raises: UnknownRequirement.
    """
    query = select(RequirementRow.plan, RequirementRow.mode).where(RequirementRow.number == number)
    found = await queries.rows(connection, query)
    if not found:
        raise UnknownRequirement(f"There is no requirement {number}.")
    of_fixes = select(FixRow.number).where(FixRow.root == number)
    fixes = [row["number"] for row in await queries.rows(connection, of_fixes)]
    stages = await queries.rows(
        connection, select(StageRow).where(StageRow.number == number).order_by(StageRow.position)
    )
    runs = await queries.rows(connection, _runs([number, *fixes]))
    return RequirementFacts(
        history=await _history(connection, number, fixes, runs, stages, now),
        pipeline=ORDER.validate_python(found[0]["plan"]).pipeline,
        mode=Mode(found[0]["mode"]),
        states={row["stage"]: StageState(row["state"]) for row in stages},
        asked=frozenset(row["stage"] for row in stages if _is_asked(row)),
        costs={(row["number"], row["stage"], row["attempt"]): cost_of_row(row) for row in runs},
    )


async def _history(
    connection: AsyncConnection,
    number: str,
    fixes: Sequence[str],
    runs: Rows,
    stages: Rows,
    now: datetime,
) -> History:
    phases = await queries.rows(
        connection,
        select(PhaseRow.target, PhaseRow.at)
        .where(PhaseRow.number == number, PhaseRow.stage == "")
        .order_by(PhaseRow.id),
    )
    opened, ended = lifetime([(row["target"], row["at"]) for row in phases])
    builds = await queries.rows(
        connection, select(GateRow).where(GateRow.number == number, GateRow.evidence.is_not(None))
    )
    turns = await queries.rows(
        connection, select(DeliveryTurnRow).where(DeliveryTurnRow.number == number)
    )
    return History(
        number=number,
        opened_at=opened,
        ended_at=ended,
        now=now,
        runs=tuple(_run(row) for row in runs),
        builds=tuple(
            BuildTimes(row["gate"], row["stage"], row["verdict"], row["started_at"], ended_at)
            for row in builds
            if row["started_at"] and (ended_at := row["ended_at"])
        ),
        waits=await _waits(connection, number, fixes, stages),
        delivering=tuple(
            Interval(row["taken_at"], max(row["taken_at"], row["left_at"] or ended or now))
            for row in turns
            if row["taken_at"]
        ),
    )


def _is_asked(stage: Mapping[str, Any]) -> bool:
    """Whether a stage has had a run; a skipped one names the run that it did without."""
    return stage["run_id"] is not None and stage["state"] != StageState.SKIPPED


def _runs(numbers: Sequence[str]) -> queries.Query:
    """Every run of those, in the order of their opening, with its cost."""
    return (
        select(
            *(RunRow.number, RunRow.stage, RunRow.agent, RunRow.attempt, RunRow.state),
            *(RunRow.opened_at, RunRow.started_at, RunRow.ended_at, RunRow.closed_at),
            *(RunRow.prepare_started_at, RunRow.prepare_ended_at, RunRow.suspensions),
            *COST_COLUMNS,
        )
        .outerjoin(CostRow, CostRow.run_id == RunRow.run_id)
        .where(RunRow.number.in_(numbers))
        .order_by(RunRow.opened_at, RunRow.run_id)
    )


def _run(row: Mapping[str, Any]) -> RunTimes:
    return RunTimes(
        number=row["number"],
        stage=row["stage"],
        agent=row["agent"],
        attempt=row["attempt"],
        state=StageState(row["state"]),
        opened_at=row["opened_at"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        closed_at=row["closed_at"],
        prepare_started_at=row["prepare_started_at"],
        prepare_ended_at=row["prepare_ended_at"],
        suspensions=tuple(row["suspensions"]),
    )


async def _waits(
    connection: AsyncConnection, number: str, fixes: Sequence[str], stages: Rows
) -> tuple[Wait, ...]:
    held = await queries.rows(
        connection,
        select(HoldRow)
        .where(HoldRow.number.in_([number, *fixes]))
        .order_by(HoldRow.created_at, HoldRow.boundary),
    )
    asked = await queries.rows(
        connection,
        select(EscalationRow)
        .where(EscalationRow.number == number)
        .order_by(EscalationRow.escalation),
    )
    return (
        *(
            Wait(
                WaitKind.LIMIT if row["account"] or row["budget"] else WaitKind.HOLD,
                row["number"],
                row["boundary"],
                row["reason"],
                row["created_at"],
                row["ended_at"],
            )
            for row in held
        ),
        *(
            Wait(
                WaitKind.HUMAN,
                number,
                ", ".join(dict.fromkeys(str(ask["gate"]) for ask in row["asks"])),
                "; ".join(str(ask["reason"]) for ask in row["asks"]),
                row["created_at"],
                row["answered_at"],
            )
            for row in asked
        ),
        *(
            Wait(WaitKind.SLOT, number, row["stage"], "", row["queued_at"], None)
            for row in stages
            if row["queued_at"]
        ),
    )


# --- many requirements ----------------------------------------------------------------------------


async def rates_of(connection: AsyncConnection, since: datetime | None, now: datetime) -> Rates:
    """The figures of all that ended since then, or is open; fixes belong to what they repair.

    Requirements without stages, which stand for a part of the infrastructure, are left out.
    """
    query = select(
        *(RequirementRow.number, RequirementRow.title, RequirementRow.state, RequirementRow.mode),
        *(RequirementRow.pipeline, RequirementRow.created_at, RequirementRow.ended_at),
        cast(RequirementRow.plan["pipeline"], Text).label("plan"),
    ).where(RequirementRow.parent.is_(None))
    if since is not None:
        query = query.where(
            or_(RequirementRow.ended_at >= since, RequirementRow.ended_at.is_(None))
        )
    found = await queries.rows(connection, query)
    # Most have one of a few plans.
    plans = {text: _PIPELINE.validate_json(text) for text in {row["plan"] for row in found}}
    schedules = cache(partial(_schedule, plans))
    found = [row for row in found if plans[row["plan"]].stages]
    if not found:
        return rates((), (), ())
    numbers = [row["number"] for row in found]
    whose = _with_fixes(numbers)
    measured = await measure_many(connection, numbers, now)
    spent = await costs.of_requirements(connection, numbers)
    fixes = await _counted(connection, FixRow.root, numbers)
    questions = await _counted(connection, EscalationRow.number, numbers)
    asked = await _asked(connection, numbers)
    outcomes = []
    for row in found:
        number, mode = row["number"], Mode(row["mode"])
        plan = schedules(row["plan"], mode, frozenset(asked.get(number, ())))
        outcomes.append(
            Outcome(
                number=number,
                title=row["title"],
                state=RequirementState(row["state"]),
                mode=mode,
                pipeline=row["pipeline"],
                created_at=row["created_at"],
                ended_at=row["ended_at"],
                planned=plan.makespan,
                planned_saved=plan.percentage_saved,
                performance=measured[number],
                cost=spent.get(number, NO_COST),
                fixes=fixes.get(number, 0),
                questions=questions.get(number, 0),
            )
        )
    runs = await _run_facts(connection, whose)
    failures = await _failure_facts(connection, whose)
    return replace(rates(outcomes, runs, failures), durations=await durations_of(connection))


def _schedule(
    plans: Mapping[str, Pipeline], plan: str, mode: Mode, asked: frozenset[str]
) -> Schedule:
    return planned_schedule(plans[plan], mode, asked)


def _array(numbers: Sequence[str]) -> ColumnElement[Any]:
    """One parameter, however many there are: a statement takes no more than 65,535."""
    return literal(list(numbers), ARRAY(Text))


def _with_fixes(numbers: Sequence[str]) -> CTE:
    """Those numbers and those of their fixes, each with whose it is."""
    own = select(
        RequirementRow.number, RequirementRow.number.label("root"), literal(False).label("is_fix")
    ).where(RequirementRow.number == any_(_array(numbers)))
    of_fixes = select(FixRow.number, FixRow.root, literal(True)).where(
        FixRow.root == any_(_array(numbers))
    )
    return own.union_all(of_fixes).cte("whose")


async def _counted(
    connection: AsyncConnection, column: Any, numbers: Sequence[str]
) -> Mapping[str, int]:
    query = select(column.label("number"), func.count().label("count"))
    found = await queries.rows(
        connection, query.where(column == any_(_array(numbers))).group_by(column)
    )
    return {row["number"]: row["count"] for row in found}


async def _asked(
    connection: AsyncConnection, numbers: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    """The stages that some agent was asked for."""
    query = select(StageRow.number, StageRow.stage, StageRow.state, StageRow.run_id)
    found: dict[str, list[str]] = {}
    for row in await queries.rows(
        connection, query.where(StageRow.number == any_(_array(numbers)))
    ):
        if _is_asked(row):
            found.setdefault(row["number"], []).append(row["stage"])
    return found


async def _run_facts(connection: AsyncConnection, whose: CTE) -> list[RunFact]:
    query = (
        select(
            *(RunRow.agent, RunRow.state, RunRow.verdict, whose.c.is_fix),
            *(CostRow.kind, CostRow.seconds, *COST_COLUMNS),
        )
        .join(whose, whose.c.number == RunRow.number)
        .outerjoin(CostRow, CostRow.run_id == RunRow.run_id)
    )
    return [
        RunFact(
            agent=row["agent"],
            kind=row["kind"] or "",
            state=StageState(row["state"]),
            verdict=row["verdict"],
            is_of_fix=row["is_fix"],
            seconds=row["seconds"] or 0.0,
            cost=cost_of_row(row),
        )
        for row in await queries.rows(connection, query)
    ]


async def _failure_facts(connection: AsyncConnection, whose: CTE) -> list[FailureFact]:
    query = select(whose.c.root, FailureRow.kind, FailureRow.resolved_at).join(
        whose, whose.c.number == FailureRow.number
    )
    return [
        FailureFact(row["root"], FailureKind(row["kind"]), row["resolved_at"] is not None)
        for row in await queries.rows(connection, query)
    ]


# --- a delivery -----------------------------------------------------------------------------------


async def delivery_facts(connection: AsyncConnection, number: str) -> DeliveryFacts:
    """Stages in plan order; each gate's latest check; failures that were reported, with fixes.

    Raises: UnknownRequirement.
    """
    details = await queries.details(connection, number)
    if details is None:
        raise UnknownRequirement(f"There is no requirement {number}.")
    told = select(RunRow.stage, RunRow.summary).where(RunRow.number == number, RunRow.summary != "")
    rows = await queries.rows(connection, told.order_by(RunRow.opened_at))
    summaries = {row["stage"]: row["summary"] for row in rows}
    gates = {row["gate"]: row for row in details["gates"]}  # the latest is the last
    failures = await queries.rows(connection, queries.failures(number))
    return DeliveryFacts(
        number=number,
        title=details["title"],
        description=details["description"],
        stages=[
            ReportedStage(
                stage=row["stage"],
                agent=row["agent"],
                state=row["state"],
                summary=summaries.get(row["stage"], ""),
                attempts=row["attempt"],
                seconds=_seconds(row),
                cost=row["cost"],
            )
            for row in details["stages"]
        ],
        gates=[
            ReportedGate(row["gate"], row["commit"], row["verdict"] == "green", _seconds(row))
            for row in gates.values()
        ],
        failures=[
            ReportedFailure(row["stage"], row["gate"], row["kind"], row["error"])
            for row in failures
        ],
        fixes=[
            ReportedFix(
                number=row["number"],
                assignee=row["assignee"] or "",
                gate=row["gate"],
                state=row["state"],
                reason=row["reason"],
                cost=row["cost"],
            )
            for row in details["fixes"]
        ],
        cost=details["cost"],
    )


def _seconds(row: Mapping[str, Any]) -> float | None:
    began: datetime | None = row["started_at"]
    ended: datetime | None = row["ended_at"]
    return (ended - began).total_seconds() if began and ended else None
