"""What the SDLC database knows of a requirement that asks about the rules, read at one moment.

Implements the port `RuleFacts`: within two seconds, or not at all.
"""

import asyncio
import time
from typing import Any

from sqlalchemy import Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from sqlalchemy.orm import aliased

from adapters.sdlc.database import NAME, Database, async_engine
from adapters.sdlc.queries import Row, rows
from adapters.sdlc.requirements import ORDER
from adapters.sdlc.tables import BlockerRow, ExtensionRow, FixRow, RequirementRow, StageRow, is_open
from adapters.waiting import within
from pipeline.errors import DependencyUnavailable, UnknownRequirement
from pipeline.model import HUMAN, Mode, Pipeline, Priority, RequirementState, StageState
from pipeline.numbers import FIX_LENGTH
from pipeline.questions import RequirementFacts, StageFacts


async def requirement_facts(connection: AsyncConnection, number: str) -> RequirementFacts | None:
    """The facts of a requirement or a fix; None if there is none of that number."""
    found = await rows(connection, select(RequirementRow).where(RequirementRow.number == number))
    if not found:
        return None
    row, pipeline = found[0], ORDER.validate_python(found[0]["plan"]).pipeline
    fixes = await rows(connection, _fixes(number))
    open_p0s = await rows(connection, _open_p0s())
    blocks = bool(open_p0s) and bool(await rows(connection, _blocks_p0(number)))
    return RequirementFacts(
        number=number,
        priority=Priority(row["priority"]),
        state=RequirementState(row["state"]),
        mode=Mode(row["mode"]),
        reason=row["reason"],
        waiting_for=row["waiting_for"],
        pipeline=pipeline,
        stages=tuple(_stage(pipeline, each) for each in await rows(connection, _stages(number))),
        fixes={each["gate"]: each["opened"] for each in fixes},
        open_p0s=tuple(each["number"] for each in open_p0s),
        blocks_p0=blocks,
    )


def _stage(pipeline: Pipeline, row: Row) -> StageFacts:
    stage = pipeline.stage(row["stage"])
    return StageFacts(
        stage=stage,
        state=StageState(row["state"]),
        attempt=row["attempt"],
        run_id=row["run_id"] or "",
        deadline=max(stage.deadline, row["extended"] or stage.deadline),
    )


def _stages(number: str) -> Select[*tuple[Any, ...]]:
    extended = select(func.max(ExtensionRow.deadline)).where(ExtensionRow.run_id == StageRow.run_id)
    return (
        select(
            StageRow.stage,
            StageRow.state,
            StageRow.attempt,
            StageRow.run_id,
            extended.scalar_subquery().label("extended"),
        )
        .where(StageRow.number == number)
        .order_by(StageRow.position)
    )


def _fixes(number: str) -> Select[*tuple[Any, ...]]:
    opened = func.count().label("opened")
    return select(FixRow.gate, opened).where(FixRow.root == number).group_by(FixRow.gate)


def _open_p0s() -> Select[*tuple[Any, ...]]:
    return (
        select(RequirementRow.number)
        .where(RequirementRow.priority == str(Priority.P0), is_open())
        .order_by(RequirementRow.created_at, RequirementRow.number)
    )


def _blocks_p0(number: str) -> Select[*tuple[Any, ...]]:
    """Whether an open P0 waits for it, or for what it repairs, itself or through others."""
    unresolved = BlockerRow.resolved_at.is_(None) & (BlockerRow.blocked_by != HUMAN)
    first = select(BlockerRow.blocked_by).where(
        unresolved, BlockerRow.number.in_(_open_p0s().order_by(None))
    )
    blockers = first.cte(recursive=True)
    further = aliased(BlockerRow)
    blockers = blockers.union(
        select(further.blocked_by).where(
            further.resolved_at.is_(None),
            further.blocked_by != HUMAN,
            further.number == blockers.c.blocked_by,
        )
    )
    repaired = select(FixRow.root).where(FixRow.number == number).scalar_subquery()
    is_asked = or_(blockers.c.blocked_by == number, blockers.c.blocked_by == repaired)
    return select(blockers.c.blocked_by).where(is_asked).limit(1)


ANSWER_SECONDS = 2.0
"""An agent waits for the answer, which is given without facts after that."""
PAUSE_SECONDS = 5.0
"""How long a silent database is not asked again: every question would wait for nothing."""
_CONNECTIONS = 2


def create_rule_facts(database_url: str) -> "SdlcRuleFacts":
    """Facts from `postgresql+psycopg://…`, over connections of their own; made on first use."""
    return SdlcRuleFacts(async_engine(database_url, pool_size=_CONNECTIONS))


class SdlcRuleFacts:
    """Reads the facts of requirements; close it in the end."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._database = Database(engine)
        # who waits for a connection has not asked the database yet: his time does not run
        self._connections = asyncio.Semaphore(_CONNECTIONS)
        self._silent_until = 0.0

    async def of(self, number: str) -> RequirementFacts:
        """The facts of a requirement. Raises: UnknownRequirement, DependencyUnavailable."""
        facts = await self._ask(number) if len(number) <= FIX_LENGTH else None
        if facts is None:
            raise UnknownRequirement(f"There is no requirement {number[:FIX_LENGTH]}.")
        return facts

    async def close(self) -> None:
        """Give the connections back."""
        await self._database.close()

    async def _ask(self, number: str) -> RequirementFacts | None:
        async with self._connections:
            if time.monotonic() < self._silent_until:
                raise self._silent()
            reading = self._database.read(lambda c: requirement_facts(c, number))
            try:
                return await within(ANSWER_SECONDS, reading)
            except TimeoutError:
                self._silent_until = time.monotonic() + PAUSE_SECONDS
                raise self._silent() from None

    def _silent(self) -> DependencyUnavailable:
        remedy = f"It has not answered within {ANSWER_SECONDS:g} s."
        return DependencyUnavailable(NAME, self._database.address, remedy)
