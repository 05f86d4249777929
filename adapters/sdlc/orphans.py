"""Orphan checks: open requirements that no workflow may be serving, and ended ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ARRAY, RowMapping, Select, Text, any_, exists, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from adapters.sdlc.requirements import ORDER
from adapters.sdlc.tables import FixRow, RequirementRow, StageRow, is_open
from pipeline.model import RequirementOrder, RequirementState

_ROOT = aliased(RequirementRow)


@dataclass(frozen=True)
class OpenRow:
    """A requirement that has not ended.

    `workflow_run` is None until a host has taken it, `root` is what a fix repairs. One without
    stages stands for a component: only Sasha starts its workflow.
    """

    number: str
    state: RequirementState
    workflow_run: str | None
    root: str | None
    has_root_ended: bool
    has_stages: bool

    @property
    def may_be_started(self) -> bool:
        """Whether its start got no further than its row, and may be completed."""
        return self.workflow_run is None and self.has_stages

    @property
    def awaits_orchestrator(self) -> bool:
        """Whether this is a fix that was not opened: its requirement starts it in its turn."""
        return self.workflow_run is None and self.root is not None and not self.has_root_ended


async def open_rows(connection: AsyncConnection, grace: timedelta) -> Sequence[OpenRow]:
    """All that are open and were not written for that time, the most urgent first."""
    found = await connection.execute(_open(grace).order_by(RequirementRow.priority))
    return [_row(row) for row in found.mappings()]


async def open_row(connection: AsyncConnection, number: str, grace: timedelta) -> OpenRow | None:
    """One of them; None if it is none of them any more."""
    found = await connection.execute(_open(grace).where(RequirementRow.number == number))
    row = found.mappings().one_or_none()
    return _row(row) if row else None


async def order_of(connection: AsyncConnection, number: str) -> RequirementOrder:
    """The input that stands in the row."""
    query = select(RequirementRow.plan).where(RequirementRow.number == number)
    return ORDER.validate_python((await connection.execute(query)).scalar_one())


def _open(grace: timedelta) -> Select[*tuple[object, ...]]:
    return (
        select(
            RequirementRow.number,
            RequirementRow.state,
            RequirementRow.workflow_run,
            FixRow.root,
            _ROOT.ended_at.is_not(None).label("has_root_ended"),
            exists().where(StageRow.number == RequirementRow.number).label("has_stages"),
        )
        .outerjoin(FixRow, FixRow.number == RequirementRow.number)
        .outerjoin(_ROOT, _ROOT.number == FixRow.root)
        .where(
            is_open(),
            RequirementRow.updated_at < func.now() - grace,
        )
    )


def _row(row: RowMapping) -> OpenRow:
    return OpenRow(**{**row, "state": RequirementState(row["state"])})


# --- ended for good -------------------------------------------------------------------------------


async def ended_requirements(
    connection: AsyncConnection, numbers: Sequence[str]
) -> Mapping[str, datetime]:
    """When those of the numbers ended that have; a fix not before what it repairs.

    The logs of a fix are named to the agents of the fixes after it.
    """
    ended_at = func.greatest(RequirementRow.ended_at, _ROOT.ended_at).label("ended_at")
    query = (
        select(RequirementRow.number, ended_at)
        .outerjoin(FixRow, FixRow.number == RequirementRow.number)
        .outerjoin(_ROOT, _ROOT.number == FixRow.root)
        .where(
            # One array: a host may ask for more numbers than a query takes parameters.
            RequirementRow.number == any_(literal(list(numbers), ARRAY(Text))),
            ~is_open(),
            or_(FixRow.number.is_(None), ~is_open(_ROOT)),
        )
    )
    rows = await connection.execute(query)
    return {row.number: row.ended_at for row in rows if row.ended_at is not None}
