"""Many small writes as one statement: each is a data-modifying CTE, the whole one trip.

Building such a statement costs more than running it, so statements are kept by their shape: which
columns of which tables, in which order.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    BindParameter,
    DateTime,
    Delete,
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
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeEngine

from adapters.sdlc_tables import Base, EventRow, PhaseRow
from pipeline.events import Event

Columns = tuple[str, ...]
Shape = tuple[type[Base], Columns, Columns]
"""Table, columns of the key (none: a new row), columns that are written."""

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
        self, table: type[Base], key: Mapping[str, object], values: Mapping[str, object]
    ) -> None:
        index = len(self._shapes)
        self._shapes.append((table, tuple(key), tuple(values)))
        self._values.update({_name(index, "key", name): value for name, value in key.items()})
        self._values.update({_name(index, "set", name): value for name, value in values.items()})


@lru_cache(_SHAPES)
def _statement(shapes: tuple[Shape, ...]) -> Insert:
    parts = [_part(index, *shape).cte(f"write_{index}") for index, shape in enumerate(shapes)]
    return _INSERT_EVENTS.add_cte(*parts, _INSERT_PHASES.cte("phases_written"))


def _part(index: int, table: type[Base], key: Columns, written: Columns) -> Insert | Update:
    values = {name: _parameter(index, "set", table, name) for name in written}
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
