"""What stands before a stage: the completed stages and their notices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Text, and_, any_, bindparam, cast, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.reads import Rows
from adapters.sdlc.writing import STAGES, RequirementWrite, StageRecord
from adapters.sdlc_tables import NoteRow, RunRow, StageRow
from pipeline.model import Deliverable, StageState
from pipeline.team import TEAM, Role

_TOLD_OF_FIXES = (Role.IMPLEMENTATION, Role.QA)

STAGES_AND_NOTICES = STAGES.add_columns(
    cast(RunRow.notice, Text).label("notice"), RunRow.required_fixes
).outerjoin(
    RunRow,
    and_(RunRow.run_id == StageRow.run_id, StageRow.state == str(StageState.COMPLETED)),
)
_EARLIER = (
    select(cast(RunRow.notice, Text))
    .where(
        RunRow.number == bindparam("number"),
        RunRow.stage == bindparam("stage"),
        RunRow.notice.is_not(None),
    )
    .order_by(RunRow.attempt.desc())
    .limit(1)
)

_NOTES = (
    select(NoteRow.who, NoteRow.why)
    .where(
        NoteRow.number == bindparam("number"),
        NoteRow.why != "",
        bindparam("stage") == any_(NoteRow.stages),
    )
    .order_by(NoteRow.answer)
)


@dataclass(frozen=True)
class Upstream:
    """Everything before a stage, transitively, in plan order."""

    rows: Rows

    @property
    def deliverables(self) -> tuple[Deliverable, ...]:
        """The notices of completed stages."""
        return tuple(
            Deliverable(row["stage"], row["agent"], row["notice"])
            for row in self.rows
            if row["notice"] is not None
        )


async def load_upstream(
    write: RequirementWrite, number: str, stage: str
) -> tuple[tuple[StageRecord, ...], Upstream]:
    """Every stage of a requirement, and what stands before that one."""
    rows = await write.read(STAGES_AND_NOTICES, number=number)
    known: dict[str, Mapping[str, Any]] = {row["stage"]: row for row in rows}
    records = {name: StageRecord.of(row) for name, row in known.items()}
    names = _before(records, records[stage].needs)
    return tuple(records.values()), Upstream([known[name] for name in names])


def required_fixes(upstream: Upstream, role: Role) -> tuple[str, ...]:
    """The conditions of a critique that passed, for those who must meet or check them."""
    if role not in _TOLD_OF_FIXES:
        return ()
    critiques = (row for row in upstream.rows if TEAM[row["agent"]].role is Role.CRITIQUE)
    return tuple(fix for row in critiques for fix in row["required_fixes"] or ())


async def earlier_notice(connection: AsyncConnection, number: str, stage: str) -> str:
    """The latest accepted notice of a stage as JSON text; empty if it never gave one."""
    found = await connection.execute(_EARLIER, {"number": number, "stage": stage})
    return str(found.scalar() or "")


async def notes_for(connection: AsyncConnection, number: str, stage: str) -> tuple[str, ...]:
    """What people, or the orchestrator, have said to a stage of a requirement."""
    rows = await connection.execute(_NOTES, {"number": number, "stage": stage})
    return tuple(f"{row.who}: {row.why}" for row in rows)


def _before(stages: Mapping[str, StageRecord], needs: Sequence[str]) -> list[str]:
    found = set(needs)
    for name in reversed(tuple(stages)):
        if name in found:
            found.update(stages[name].needs)
    return [name for name in stages if name in found]
