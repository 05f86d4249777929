"""What running in parallel brought, and where the rest of the time went."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Executable,
    Text,
    any_,
    bindparam,
    literal,
    select,
    union_all,
)
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from adapters.sdlc.tables import EscalationRow, FixRow, GateRow, HoldRow, PhaseRow, RunRow
from adapters.sdlc.transaction import Read, RequirementWrite, Rows, read_together
from pipeline.history import lifetime
from pipeline.model import Interval, between
from pipeline.savings import Performance, savings

_UNINTERRUPTED = literal([], RunRow.suspensions.type).label("suspensions")

Column = InstrumentedAttribute[str]
Selects = Callable[[Column], ColumnElement[bool]]
"""Says of a column of numbers which of them are meant."""


def _reads(is_own: Selects, is_part: Selects) -> tuple[Executable, ...]:
    """Work, questions, holds and phases: of a requirement alone, or with those of its fixes."""
    runs = select(
        RunRow.number,
        RunRow.opened_at.label("asked_at"),
        RunRow.started_at,
        RunRow.ended_at,
        RunRow.suspensions,
    ).where(
        is_part(RunRow.number),
        RunRow.started_at.is_not(None),
        RunRow.ended_at.is_not(None),
    )
    # Of the gates only builds are work of their own: the others were decided by runs.
    builds = select(
        GateRow.number,
        GateRow.started_at.label("asked_at"),
        GateRow.started_at,
        GateRow.ended_at,
        _UNINTERRUPTED,
    ).where(is_own(GateRow.number), GateRow.evidence.is_not(None))
    # Blocked is more than this: fixes run meanwhile.
    asked = select(EscalationRow.number, EscalationRow.created_at, EscalationRow.answered_at).where(
        is_own(EscalationRow.number)
    )
    held = select(HoldRow.number, HoldRow.created_at, HoldRow.ended_at).where(
        is_part(HoldRow.number)
    )
    phases = (
        select(PhaseRow.number, PhaseRow.target, PhaseRow.at)
        .where(is_own(PhaseRow.number), PhaseRow.stage == literal(""))
        .order_by(PhaseRow.id)
    )
    return union_all(runs, builds), asked, held, phases


_FIXES = select(FixRow.number).where(FixRow.root == bindparam("number"))
_READS = _reads(
    lambda number: number == bindparam("number"),
    lambda number: (number == bindparam("number")) | number.in_(_FIXES),
)

_NUMBERS = bindparam("numbers", type_=ARRAY(Text))
_FIXES_OF_MANY = select(FixRow.number, FixRow.root).where(FixRow.root == any_(_NUMBERS))
_READS_OF_MANY = _reads(
    lambda number: number == any_(_NUMBERS),
    lambda number: (
        (number == any_(_NUMBERS))
        | number.in_(select(FixRow.number).where(FixRow.root == any_(_NUMBERS)))
    ),
)


def performance_reads(number: str) -> tuple[Read, ...]:
    """What `performance_of` will read."""
    return tuple((each, {"number": number}) for each in _READS)


async def performance_of(write: RequirementWrite) -> Performance:
    """Everything up to the moment of that transaction, without what it has yet to write."""
    found = [await write.read(each, number=write.number) for each in _READS]
    return _performance(found, write.at)


async def measure(connection: AsyncConnection, number: str, until: datetime) -> Performance:
    """Everything up to that moment, from the recorded intervals and phases."""
    return _performance(await read_together(connection, *performance_reads(number)), until)


async def measure_many(
    connection: AsyncConnection, numbers: Sequence[str], until: datetime
) -> Mapping[str, Performance]:
    """What `measure` says of each of the requirements."""
    keys = {"numbers": list(numbers)}
    fixes, *found = await read_together(
        connection, *((each, keys) for each in (_FIXES_OF_MANY, *_READS_OF_MANY))
    )
    roots = {fix["number"]: fix["root"] for fix in fixes}
    of_each: dict[str, list[list[Mapping[str, Any]]]] = {
        number: [[] for _ in found] for number in numbers
    }
    for place, rows in enumerate(found):
        for row in rows:
            number = row["number"]
            # a fix is part of what it repairs; asked for by name it is one of its own
            for whose in {number, roots.get(number, number)} & of_each.keys():
                of_each[whose][place].append(row)
    return {number: _performance(rows, until) for number, rows in of_each.items()}


def _performance(found: Sequence[Rows], until: datetime) -> Performance:
    work, asked, held, phases = found
    waits = (max(timedelta(), run["started_at"] - run["asked_at"]) for run in work)
    worked = [(run["started_at"], run["ended_at"], run["suspensions"]) for run in work]
    suspended = [each for _, ended, times in worked for each in _suspended(ended, times)]
    holds = [_interval(hold["created_at"], hold["ended_at"] or until) for hold in held]
    questions = [_interval(ask["created_at"], ask["answered_at"] or until) for ask in asked]
    return Performance(
        savings([each for times in worked for each in between(*times)]),
        wall=_wall([(phase["target"], phase["at"]) for phase in phases], until),
        queue=sum(waits, timedelta()),
        hold=_together(holds + suspended),
        human=_together(questions),
    )


def _wall(phases: Sequence[tuple[str, datetime]], until: datetime) -> timedelta:
    """From the opening to the end."""
    opened, ended = lifetime(phases)
    return max(timedelta(), (ended or until) - opened) if opened else timedelta()


def _suspended(ended: datetime, suspensions: Sequence[datetime]) -> Sequence[Interval]:
    """What `between` leaves out: from the first suspension on it is the other way round."""
    return between(suspensions[0], ended, suspensions[1:]) if suspensions else ()


def _interval(begin: datetime, end: datetime) -> Interval:
    """A clock that was set back meanwhile must not stop a requirement from ending."""
    return Interval(begin, max(begin, end))


def _together(intervals: Sequence[Interval]) -> timedelta:
    """The length of their union."""
    return savings(intervals).parallel if intervals else timedelta()
