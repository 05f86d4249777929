"""What a requirement and its fixes have left in the database, in git and in JetStream."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.database import async_engine
from adapters.sdlc.tables import (
    Base,
    BlockerRow,
    EscalationRow,
    EventRow,
    FailureRow,
    FixRow,
    GateRow,
    NoteRow,
    PhaseRow,
    RequirementRow,
    RunRow,
    StageRow,
)
from pipeline.model import Pipeline
from tests.fixtures_workspaces import GitProject
from tests.outcomes.scenarios import PLANS, Scenario

Row = Mapping[str, Any]

_TABLES: Sequence[tuple[type[Base], str]] = (
    (RequirementRow, "created_at"),
    (StageRow, "position"),
    (PhaseRow, "id"),
    (RunRow, "opened_at"),
    (GateRow, "ended_at"),
    (FailureRow, "created_at"),
    (BlockerRow, "created_at"),
    (EscalationRow, "created_at"),
    (NoteRow, "answer"),
    (EventRow, "id"),
    (FixRow, "number"),
)


@dataclass
class Records:
    """Rows of a whole family, by table; `published` are the events that JetStream holds.

    `bases` are the commits that runs were given, `delivered` the target's commit.
    """

    number: str
    scenario: Scenario
    rows: Mapping[str, Sequence[Row]]
    published: Sequence[Row]
    bases: Mapping[str, str]
    started: Sequence[str]
    delivered: str
    tree: Sequence[str]
    parents: Mapping[str, Sequence[str]]
    _ancestors: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def plan(self) -> Pipeline:
        return PLANS[self.scenario.pipeline]

    @property
    def root(self) -> Row:
        return next(row for row in self.rows["requirements"] if row["number"] == self.number)

    def of(self, table: str, number: str = "", **wanted: object) -> list[Row]:
        """Rows of the requirement, or of that number, whose columns hold those values."""
        wanted["number"] = number or self.number
        return [row for row in self.rows[table] if _matches(row, wanted)]

    def every(self, table: str, **wanted: object) -> list[Row]:
        """Rows of the whole family."""
        return [row for row in self.rows[table] if _matches(row, wanted)]

    def stage(self, name: str) -> Row:
        return self.of("stages", stage=name)[0]

    def holds(self, commit: str, other: str) -> bool:
        """Whether the commit has the other one among its ancestors, or is it."""
        return other in self._before(commit)

    def _before(self, commit: str) -> frozenset[str]:
        if commit not in self._ancestors:
            found, left = set[str](), [commit]
            while left:
                if (one := left.pop()) not in found:
                    found.add(one)
                    left += self.parents.get(one, ())
            self._ancestors[commit] = frozenset(found)
        return self._ancestors[commit]


async def read_rows(database_url: str, number: str) -> dict[str, list[Row]]:
    """Every row of a requirement and of the fixes below it."""
    engine = async_engine(database_url, pool_size=1)
    async with engine.connect() as connection:
        rows = {t.__tablename__: await _rows(connection, t, by, number) for t, by in _TABLES}
    await engine.dispose()
    return rows


async def _rows(connection: AsyncConnection, table: type[Base], by: str, number: str) -> list[Row]:
    columns = table.__table__.c
    mine = (columns.number == number) | columns.number.startswith(f"{number}-FIX-")
    query = select(*columns).where(mine).order_by(columns[by])
    return [dict(row) for row in (await connection.execute(query)).mappings()]


def read_parents(project: GitProject) -> dict[str, tuple[str, ...]]:
    """Every commit with its parents."""
    lines = (line.split() for line in project.git("log", "--all", "--format=%H %P").splitlines())
    return {commit: tuple(parents) for commit, *parents in lines}


def _matches(row: Row, wanted: Mapping[str, object]) -> bool:
    return all(row[name] == value for name, value in wanted.items())


def unique(values: Iterable[object], key: Callable[[Any], object] = lambda value: value) -> bool:
    """Whether none of them is there twice."""
    keys = [key(value) for value in values]
    return len(keys) == len(set(keys))
