"""The row that comes before everything: a requirement's whole input, and its stages waiting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from pydantic import TypeAdapter
from sqlalchemy import insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.line import move_line
from adapters.sdlc.user_blockers import add, lock_rows
from adapters.sdlc_tables import PhaseRow, RequirementRow, StageRow
from pipeline.errors import AlreadyStarted, UnknownRequirement
from pipeline.model import Mode, Priority, RequirementOrder, RequirementState, StageState

ORDER = TypeAdapter(RequirementOrder)
"""The input as JSON and back."""


@dataclass(frozen=True)
class Acceptance:
    """A requirement to be accepted: its workflow's input and the text that stays in the row."""

    order: RequirementOrder
    description: str
    parent: str | None = None
    assignee: str | None = None
    who: str = "user"
    blocked_by: tuple[str, ...] = ()

    @property
    def moves_line(self) -> bool:
        """Whether it changes who may go on: a P0 that is no fix, or one that waits for others."""
        is_p0 = self.order.priority is Priority.P0 and self.parent is None
        return is_p0 or bool(self.blocked_by)


async def accept(connection: AsyncConnection, acceptances: Sequence[Acceptance]) -> tuple[str, ...]:
    """Insert all or none; returns the numbers that are new.

    The others are starts that got no further than their row, and may be completed.

    Raises: RefusedInput for blockers; AlreadyStarted for a number that is taken, in whatever case;
        UnknownRequirement for a parent that does not exist.
    """
    _refuse_twins(acceptances)
    await _check_parents(connection, acceptances)
    await lock_rows(connection, {by for a in acceptances for by in a.blocked_by})
    if any(a.moves_line for a in acceptances):
        await move_line(connection)
    at = datetime.now(UTC)
    new = await _insert_requirements(connection, acceptances, at)
    await _refuse_taken(connection, [a for a in acceptances if a.order.number not in new])
    fresh = [a for a in acceptances if a.order.number in new]
    if fresh:
        await connection.execute(insert(PhaseRow), [_phase(a, at) for a in fresh])
    if stages := [row for a in fresh for row in _stages(a.order)]:
        await connection.execute(insert(StageRow), stages)
    for each in fresh:
        await add(connection, each.order.number, each.blocked_by)
    return tuple(a.order.number for a in fresh)


def _refuse_twins(acceptances: Sequence[Acceptance]) -> None:
    seen: dict[str, str] = {}
    for acceptance in acceptances:
        number = acceptance.order.number
        if twin := seen.get(number.lower()):
            raise AlreadyStarted(f"{number} and {twin} are the same number.")
        seen[number.lower()] = number


async def _check_parents(connection: AsyncConnection, acceptances: Sequence[Acceptance]) -> None:
    known = {a.order.number for a in acceptances}
    parents = {a.parent for a in acceptances if a.parent} - known
    if not parents:
        return
    query = select(RequirementRow.number).where(RequirementRow.number.in_(sorted(parents)))
    found = set((await connection.execute(query)).scalars())
    if missing := sorted(parents - found):
        raise UnknownRequirement(f"There is no requirement {missing[0]} to be the parent.")


async def _insert_requirements(
    connection: AsyncConnection, acceptances: Sequence[Acceptance], at: datetime
) -> set[str]:
    if not acceptances:
        return set()
    statement = upsert(RequirementRow).on_conflict_do_nothing().returning(RequirementRow.number)
    # In one order everywhere, so that two batches cannot wait for each other's rows.
    ordered = sorted(acceptances, key=lambda a: a.order.number.lower())
    inserted = await connection.execute(statement, [_requirement(a, at) for a in ordered])
    return set(inserted.scalars())


async def _refuse_taken(connection: AsyncConnection, acceptances: Sequence[Acceptance]) -> None:
    folded = [a.order.number.lower() for a in acceptances]
    if not folded:
        return
    query = select(RequirementRow.number, RequirementRow.number_folded, RequirementRow.state).where(
        RequirementRow.number_folded.in_(folded)
    )
    rows = {row.number_folded: row for row in await connection.execute(query)}
    for acceptance in acceptances:
        number = acceptance.order.number
        row = rows[number.lower()]
        if row.number != number:
            raise AlreadyStarted(f"{number} is taken: {row.number} differs only in case.")
        if row.state != RequirementState.ACCEPTED:
            raise AlreadyStarted(f"{number} is already {row.state}: a number is used once.")


def _requirement(acceptance: Acceptance, at: datetime) -> Mapping[str, object]:
    order = acceptance.order
    return {
        "number": order.number,
        "number_folded": order.number.lower(),
        "title": order.title,
        "description": acceptance.description,
        "priority": str(order.priority),
        "state": str(RequirementState.ACCEPTED),
        "mode": str(Mode.SEQUENTIAL if order.sequential else Mode.PARALLEL),
        "sequential": order.sequential,
        "pre_empts": order.pre_empts,
        "pipeline": order.pipeline.name,
        "plan": ORDER.dump_python(order, mode="json"),
        "parent": acceptance.parent,
        "assignee": acceptance.assignee,
        "waiting_for": "host",
        "created_at": at,
        "updated_at": at,
    }


def _phase(acceptance: Acceptance, at: datetime) -> Mapping[str, object]:
    return {
        "number": acceptance.order.number,
        "stage": "",
        "source": None,
        "target": str(RequirementState.ACCEPTED),
        "at": at,
        "who": acceptance.who,
        "why": "",
    }


def _stages(order: RequirementOrder) -> Sequence[Mapping[str, object]]:
    return [
        {
            "number": order.number,
            "stage": stage.name,
            "agent": stage.agent,
            "group": stage.group,
            "position": position,
            "needs": list(stage.needs),
            "state": str(StageState.WAITING),
        }
        for position, stage in enumerate(order.pipeline.stages)
    ]
