"""One transaction on one requirement: what it reads, moves, says and writes, in few trips.

A trip to the database costs more than most of our statements. So what is known to be read is read
together with the lock, and everything that is written is collected and sent as one statement.

Locking the requirement's row first lets two transactions that close stages at once see each other.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import psycopg
from psycopg.rows import dict_row
from sqlalchemy import (
    BigInteger,
    BindParameter,
    DateTime,
    Delete,
    Executable,
    Insert,
    Text,
    Update,
    and_,
    bindparam,
    column,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql import ClauseElement
from sqlalchemy.sql.compiler import Compiled
from sqlalchemy.types import TypeEngine

from adapters.sdlc.tables import Base, EventRow, PhaseRow, RequirementRow, StageRow
from pipeline.errors import StaleAttempt, UnknownRequirement
from pipeline.events import Event, EventType, event
from pipeline.model import ORCHESTRATOR, RequirementState, StageState
from pipeline.phases import check_requirement_move, check_stage_move

# --- reading: several statements in one trip ------------------------------------------------------
#
# psycopg's pipeline sends statements without waiting for the answers before them. The server runs
# them in order, each with its own snapshot: a read after a lock sees what its holder committed.

Read = tuple[Executable, Mapping[str, object]]
"""A statement and its parameters."""

Rows = Sequence[Mapping[str, Any]]

_DIALECT = PGDialect_psycopg()  # type: ignore[no-untyped-call] # as SQLAlchemy ships it


async def read_together(connection: AsyncConnection, *reads: Read) -> list[Rows]:
    """The rows of each statement; `in_` with a list is not for them, `any_` of an array is.

    Raises: what `AsyncConnection.execute` raises; the statements after the one that fails do not
    run.
    """
    driver = (await connection.get_raw_connection()).driver_connection
    assert isinstance(driver, psycopg.AsyncConnection)
    try:
        async with driver.pipeline():
            cursors = [driver.cursor(row_factory=dict_row) for _ in reads]
            for cursor, (statement, values) in zip(cursors, reads, strict=True):
                compiled = _compiled(statement)
                await cursor.execute(str(compiled).encode(), compiled.construct_params(values))
        return [await cursor.fetchall() for cursor in cursors]
    except psycopg.Error as error:
        if driver.closed:
            await connection.invalidate(error)
        raise _as_sqlalchemy_says_it(error, is_lost=driver.closed) from error
    except asyncio.CancelledError as error:
        await connection.invalidate(error)  # answers may still be on their way
        raise


@lru_cache(512)
def _compiled(statement: Executable) -> Compiled:
    assert isinstance(statement, ClauseElement)
    return statement.compile(dialect=_DIALECT)


def _as_sqlalchemy_says_it(error: psycopg.Error, *, is_lost: bool) -> Exception:
    return DBAPIError.instance(
        None, None, error, psycopg.Error, connection_invalidated=is_lost, dialect=_DIALECT
    )


# --- writing: many small writes as one statement --------------------------------------------------
#
# Each write is a data-modifying CTE. Building such a statement costs more than running it, so
# statements are cached by their shape: which columns of which tables, in which order.

Columns = tuple[str, ...]
Shape = tuple[type[Base], Columns, Columns, bool]
"""Table, columns of the key (none: a new row), columns that are written; whether a new row may be
there already."""

_SHAPES = 512
"""Statements kept; a pipeline of eleven stages makes a few dozen."""


class Batch:
    """Writes of one transaction, sent together. No two of them may touch the same row."""

    def __init__(self, at: datetime) -> None:
        """`at` is when the events are said."""
        self._at = at
        self._shapes: list[Shape] = []
        self._values: dict[str, object] = {}
        self._others: list[Insert | Update | Delete] = []
        self._phases: list[Mapping[str, object]] = []
        self._events: list[Mapping[str, object]] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing was collected."""
        return not (self._shapes or self._others or self._phases or self._events)

    def insert(self, table: type[Base], values: Mapping[str, object]) -> None:
        """A new row."""
        self._write(table, {}, values)

    def ensure(self, table: type[Base], values: Mapping[str, object]) -> None:
        """A new row, unless there is one with that primary key."""
        self._write(table, {}, values, may_be_there=True)

    def update(
        self, table: type[Base], key: Mapping[str, object], values: Mapping[str, object]
    ) -> None:
        """Columns of the row with that key."""
        self._write(table, key, values)

    def add(self, *statements: Insert | Update | Delete) -> None:
        """Writes of any other form."""
        self._others.extend(statements)

    def phase(self, values: Mapping[str, object]) -> None:
        """A row of the phase history; rows keep their order."""
        self._phases.append({"seq": len(self._phases), **values})

    def event(self, event: Event) -> None:
        """A row of the events; rows keep their order."""
        self._events.append(
            {
                "seq": len(self._events),
                "number": event.number,
                "event_id": event.event_id,
                "type": str(event.type),
                "subject": event.subject,
                "payload": dict(event.payload),
                "created_at": self._at.isoformat(),
            }
        )

    async def execute(self, connection: AsyncConnection) -> None:
        """Send everything."""
        statement = _statement(tuple(self._shapes))
        if self._others:
            others = (each.cte(f"other_{i}") for i, each in enumerate(self._others))
            statement = statement.add_cte(*others)
        values = {**self._values, "phases": self._phases, "events": self._events}
        await connection.execute(statement, values)

    def _write(
        self,
        table: type[Base],
        key: Mapping[str, object],
        values: Mapping[str, object],
        *,
        may_be_there: bool = False,
    ) -> None:
        index = len(self._shapes)
        self._shapes.append((table, tuple(key), tuple(values), may_be_there))
        self._values.update({_name(index, "key", name): value for name, value in key.items()})
        self._values.update({_name(index, "set", name): value for name, value in values.items()})


@lru_cache(_SHAPES)
def _statement(shapes: tuple[Shape, ...]) -> Insert:
    parts = [_part(index, *shape).cte(f"write_{index}") for index, shape in enumerate(shapes)]
    return _INSERT_EVENTS.add_cte(*parts, _INSERT_PHASES.cte("phases_written"))


def _part(
    index: int, table: type[Base], key: Columns, written: Columns, may_be_there: bool
) -> Insert | Update:
    values = {name: _parameter(index, "set", table, name) for name in written}
    if may_be_there:
        return upsert(table).values(values).on_conflict_do_nothing()
    if not key:
        return insert(table).values(values)
    same = (getattr(table, name) == _parameter(index, "key", table, name) for name in key)
    return update(table).where(and_(*same)).values(values)


def _parameter(index: int, role: str, table: type[Base], name: str) -> BindParameter[Any]:
    return bindparam(_name(index, role, name), type_=table.__table__.c[name].type)


def _name(index: int, role: str, name: str) -> str:
    return f"{role}_{index}_{name}"


# --- rows of one kind, as many as there are -----------------------------------------------------


def _insert_records(
    table: type[Base], parameter: str, columns: Mapping[str, TypeEngine[Any]]
) -> Insert:
    """Insert the objects of a JSON array in the order of their `seq`."""
    records = (
        func.jsonb_to_recordset(bindparam(parameter, type_=JSONB))
        .table_valued(
            column("seq", BigInteger),
            *(column(name, kind) for name, kind in columns.items()),
            name=f"{parameter}_given",
        )
        .render_derived(with_types=True)
    )
    names: Sequence[str] = list(columns)
    chosen = select(*(records.c[name] for name in names)).order_by(records.c.seq)
    return insert(table).from_select(names, chosen)


_TIME = DateTime(timezone=True)
_INSERT_PHASES = _insert_records(
    PhaseRow,
    "phases",
    {
        "number": Text(),
        "stage": Text(),
        "source": Text(),
        "target": Text(),
        "at": _TIME,
        "who": Text(),
        "why": Text(),
    },
)
_INSERT_EVENTS = _insert_records(
    EventRow,
    "events",
    {
        "number": Text(),
        "event_id": Text(),
        "type": Text(),
        "subject": Text(),
        "payload": JSONB(),
        "created_at": _TIME,
    },
)


# --- the transaction ------------------------------------------------------------------------------

LOOK = select(
    RequirementRow.number,
    RequirementRow.title,
    RequirementRow.priority,
    RequirementRow.parent,
    RequirementRow.state,
    RequirementRow.sequential,
    RequirementRow.host,
    RequirementRow.round,
    RequirementRow.workflow_run,
    RequirementRow.waiting_for,
    RequirementRow.created_at,
    RequirementRow.started_at,
).where(RequirementRow.number == bindparam("number"))
"""The columns that every transaction needs."""

LOCK = LOOK.with_for_update()

STAGES = (
    select(
        StageRow.number,
        StageRow.stage,
        StageRow.agent,
        StageRow.group,
        StageRow.needs,
        StageRow.state,
        StageRow.attempt,
        StageRow.resumed,
        StageRow.run_id,
        StageRow.started_at,
        StageRow.ended_at,
        StageRow.queued_at,
    )
    .where(StageRow.number == bindparam("number"))
    .order_by(StageRow.position)
)
"""What a `StageRecord` is made of."""


@dataclass
class StageRecord:
    """A stage's row as it will stand when the transaction is flushed."""

    number: str
    stage: str
    agent: str
    group: str
    needs: tuple[str, ...]
    state: StageState
    attempt: int
    resumed: int
    run_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    queued_at: datetime | None
    changes: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "StageRecord":
        """The record of a row that has at least these columns."""
        return cls(
            row["number"],
            row["stage"],
            row["agent"],
            row["group"],
            tuple(row["needs"]),
            StageState(row["state"]),
            row["attempt"],
            row["resumed"],
            row["run_id"],
            row["started_at"],
            row["ended_at"],
            row["queued_at"],
        )

    def set(self, **values: object) -> None:
        """Change columns of the row."""
        for name, value in values.items():
            setattr(self, name, value)
        self.changes.update(values)

    def refuse_stale(self, attempt: int) -> None:
        """Raises: StaleAttempt if a newer attempt of the stage is current."""
        if self.attempt > attempt:
            raise StaleAttempt(
                f"{self.number}: {self.stage} is at attempt {self.attempt}, not {attempt}."
            )


class RequirementWrite:
    """Holds the requirement's row locked and collects what the transaction changes."""

    def __init__(
        self,
        connection: AsyncConnection,
        row: Mapping[str, Any],
        ahead: Sequence[tuple[Read, Rows]],
    ) -> None:
        """Take the locked row; use `lock`."""
        self.connection = connection
        self.row = row
        self.number: str = row["number"]
        self.state = RequirementState(row["state"])
        self.at = datetime.now(UTC)
        self.stages: dict[str, StageRecord] = {}
        self.holds_begun: dict[str, int] = {}
        """The last occurrence that this transaction has given to a hold, by boundary."""
        self._ahead = list(ahead)
        self._changes: dict[str, object] = {"updated_at": self.at}
        self._batch = Batch(self.at)

    @classmethod
    async def lock(
        cls,
        connection: AsyncConnection,
        number: str,
        *ahead: Read,
        statement: Executable = LOCK,
    ) -> "RequirementWrite":
        """Begin with the requirement's row.

        What `read` is going to be asked for in any case is read `ahead`, in the same trip.

        Raises: UnknownRequirement.
        """
        rows, *found = await read_together(connection, (statement, {"number": number}), *ahead)
        if not rows:
            raise UnknownRequirement(f"There is no requirement {number}.")
        return cls(connection, rows[0], list(zip(ahead, found, strict=True)))

    async def read(self, statement: Executable, **values: object) -> Rows:
        """The rows of a statement, read ahead or now."""
        for ahead in self._ahead:
            (read, known), rows = ahead
            if read is statement and known == values:
                self._ahead.remove(ahead)  # what is asked again is to be read again
                return rows
        (rows,) = await read_together(self.connection, (statement, values))
        return rows

    async def load_stages(self) -> None:
        """Read every stage in the order of the plan, as of now: after the lock was had."""
        rows = await self.read(STAGES, number=self.number)
        self.take_stages(map(StageRecord.of, rows))

    def take_stages(self, records: Iterable[StageRecord]) -> None:
        """Use rows that were read together with something else."""
        self.stages = {record.stage: record for record in records}

    def stage(self, name: str) -> StageRecord:
        """A loaded stage. Raises: UnknownRequirement."""
        try:
            return self.stages[name]
        except KeyError:
            raise UnknownRequirement(f"{self.number} has no stage {name!r}.") from None

    # --- what the transaction changes -------------------------------------------------------

    def move(self, target: RequirementState, *, who: str = ORCHESTRATOR, why: str = "") -> None:
        """Change the requirement's phase. Raises: IllegalTransition."""
        check_requirement_move(self.state, target)
        self._record_phase("", self.state, target, who, why)
        self.state = target
        self.set(state=target)

    def move_stage(
        self, stage: StageRecord, target: StageState, *, who: str = ORCHESTRATOR, why: str = ""
    ) -> None:
        """Change a stage's phase; it waits for no slot any more. Raises: IllegalTransition."""
        check_stage_move(stage.state, target)
        self._record_phase(stage.stage, stage.state, target, who, why)
        stage.set(state=target, reason=why, queued_at=None)

    def set(self, **values: object) -> None:
        """Change columns of the requirement's row."""
        self._changes.update(values)

    def tell(
        self, scope: str, kind: EventType, fields: Mapping[str, object], *, occurrence: int = 1
    ) -> None:
        """Say that it happened, when the transaction commits. `scope` names who speaks."""
        self.emit(event(scope, kind, self.number, self.at, occurrence=occurrence, **fields))

    def emit(self, said: Event) -> None:
        """Send an event when the transaction commits."""
        self._batch.event(said)

    def insert(self, table: type[Base], **values: object) -> None:
        """A new row of this requirement."""
        self._batch.insert(table, {"number": self.number, **values})

    def ensure(self, table: type[Base], **values: object) -> None:
        """A new row of this requirement, unless there is one with that primary key."""
        self._batch.ensure(table, {"number": self.number, **values})

    def update(self, table: type[Base], key: Mapping[str, object], **values: object) -> None:
        """Columns of the row with that key."""
        self._batch.update(table, key, values)

    def update_all(self, *statements: Update | Delete) -> None:
        """Columns of every row that such a statement finds; or the rows themselves."""
        self._batch.add(*statements)

    async def flush(self) -> None:
        """Send everything that was collected; where nothing was, nothing has changed."""
        key = {"number": self.number}
        for stage in self.stages.values():
            if stage.changes:
                self.update(StageRow, {**key, "stage": stage.stage}, **stage.changes)
        if self._batch.is_empty and self._changes.keys() == {"updated_at"}:
            return
        self.update(RequirementRow, key, **self._changes)
        await self._batch.execute(self.connection)

    def _record_phase(self, stage: str, source: str, target: str, who: str, why: str) -> None:
        self._batch.phase(
            {
                "number": self.number,
                "stage": stage,
                "source": source,
                "target": target,
                "at": self.at.isoformat(),
                "who": who,
                "why": why,
            }
        )


async def lock_rows(connection: AsyncConnection, numbers: set[str]) -> None:
    """Lock requirements, in one order everywhere: none ends before the transaction does."""
    if numbers:
        query = select(RequirementRow.number).where(RequirementRow.number.in_(sorted(numbers)))
        await connection.execute(query.order_by(RequirementRow.number).with_for_update())
