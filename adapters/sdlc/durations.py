"""What earlier requirements did and how long that took, as rows: one statement."""

from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Float,
    String,
    case,
    cast,
    false,
    func,
    literal,
    null,
    select,
    true,
)
from sqlalchemy import union_all as union
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc import queries
from adapters.sdlc.tables import CostRow, FixRow, GateRow, RequirementRow, RunRow, StageRow
from pipeline.durations import Known, Piece, WorkRow, known
from pipeline.model import RequirementState, StageState

_RECENT = 300
"""Requirements that are looked at, the latest ones: about ten thousand rows."""
_GREEN = "green"
_NO_TIME: ColumnElement[Any] = cast(null(), RunRow.started_at.type)


async def durations_of(connection: AsyncConnection) -> Known:
    """What is known of durations. Stages and builds of open requirements count as well."""
    rows = await queries.rows(connection, _QUERY)
    return known([_work(row) for row in rows])


def _work(row: queries.Row) -> WorkRow:
    fields = {**row, "piece": Piece(row["piece"]), "suspensions": tuple(row["suspensions"])}
    return WorkRow(**fields)


def _recent() -> CTE:
    """The latest requirements that a host has taken, with what was expected of each."""
    expected = RequirementRow.plan["expected"]
    is_learned = expected["is_learned"].as_boolean()
    return (
        select(
            RequirementRow.number,
            RequirementRow.created_at,
            RequirementRow.pipeline,
            (RequirementRow.state == str(RequirementState.DELIVERED)).label("is_delivered"),
            case((is_learned, cast(expected["p50"].astext, Float))).label("p50"),
            case((is_learned, cast(expected["p80"].astext, Float))).label("p80"),
        )
        .where(RequirementRow.parent.is_(None), RequirementRow.started_at.is_not(None))
        .order_by(RequirementRow.created_at.desc(), RequirementRow.number)
        .limit(_RECENT)
        .cte("recent")
    )


def _query() -> queries.Query:
    recent = _recent()
    whose = (
        recent.c.created_at,
        *(recent.c.number, recent.c.pipeline, recent.c.is_delivered, recent.c.p50, recent.c.p80),
    )
    root = FixRow.root
    runs = (
        select(
            *whose,
            FixRow.number.is_not(None).label("is_of_fix"),
            literal(str(Piece.RUN), String).label("piece"),
            RunRow.stage.label("name"),
            RunRow.agent,
            func.coalesce(CostRow.kind, literal("", String)).label("kind"),
            (RunRow.state == str(StageState.COMPLETED)).label("is_done"),
            *(RunRow.started_at, RunRow.ended_at, RunRow.closed_at),
            *(RunRow.prepare_started_at, RunRow.prepare_ended_at, RunRow.suspensions),
        )
        .outerjoin(FixRow, FixRow.number == RunRow.number)
        .join(recent, recent.c.number.in_((RunRow.number, root)))
        .outerjoin(CostRow, CostRow.run_id == RunRow.run_id)
        .where(RunRow.ended_at.is_not(None))
    )
    untouched = literal([], RunRow.suspensions.type)
    no_times = (_NO_TIME, _NO_TIME)
    builds = (
        select(
            *whose,
            false(),
            literal(str(Piece.BUILD), String),
            GateRow.gate,
            literal("", String),
            literal("", String),
            GateRow.verdict == _GREEN,
            *(GateRow.started_at, GateRow.ended_at, _NO_TIME, *no_times, untouched),
        )
        .join(recent, recent.c.number == GateRow.number)
        .where(GateRow.evidence.is_not(None), GateRow.started_at.is_not(None))
    )
    skips = (
        select(
            *whose,
            false(),
            literal(str(Piece.SKIP), String),
            StageRow.stage,
            StageRow.agent,
            literal("", String),
            true(),
            *(_NO_TIME, _NO_TIME, _NO_TIME, *no_times, untouched),
        )
        .join(recent, recent.c.number == StageRow.number)
        .where(StageRow.state == str(StageState.SKIPPED))
    )
    every = union(runs, builds, skips).subquery()
    columns = [column for column in every.columns if column.name != "created_at"]
    latest_first = (every.c.created_at.desc(), every.c.number, every.c.ended_at)
    return select(*columns).order_by(*latest_first)


_QUERY = _query()
