"""What running in parallel brought, and where the rest of the time went."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, CompoundSelect, bindparam, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import InstrumentedAttribute

from adapters.sdlc.tables import EscalationRow, FixRow, GateRow, HoldRow, PhaseRow, RunRow
from adapters.sdlc.transaction import read_together
from pipeline.model import Interval, RequirementState, between
from pipeline.savings import Savings, savings

_FIXES = select(FixRow.number).where(FixRow.root == bindparam("number"))


def _is_part_of(number: InstrumentedAttribute[str]) -> ColumnElement[bool]:
    """It belongs to the requirement, or to one of its fixes."""
    return (number == bindparam("number")) | number.in_(_FIXES)


_UNINTERRUPTED = literal([], RunRow.suspensions.type).label("suspensions")
_WORK: CompoundSelect[datetime, datetime, datetime, list[datetime]] = union_all(
    select(
        RunRow.opened_at.label("asked_at"), RunRow.started_at, RunRow.ended_at, RunRow.suspensions
    ).where(
        _is_part_of(RunRow.number),
        RunRow.started_at.is_not(None),
        RunRow.ended_at.is_not(None),
    ),
    # Of the gates only builds are work of their own: the others were decided by runs.
    select(
        GateRow.started_at.label("asked_at"), GateRow.started_at, GateRow.ended_at, _UNINTERRUPTED
    ).where(GateRow.number == bindparam("number"), GateRow.evidence.is_not(None)),
)
_PHASES = (
    select(PhaseRow.target, PhaseRow.at)
    .where(PhaseRow.number == bindparam("number"), PhaseRow.stage == literal(""))
    .order_by(PhaseRow.id)
)


# Blocked is more than this: fixes run meanwhile.
_ASKED = select(EscalationRow.created_at, EscalationRow.answered_at).where(
    EscalationRow.number == bindparam("number")
)


_HELD = select(HoldRow.created_at, HoldRow.ended_at).where(_is_part_of(HoldRow.number))


@dataclass(frozen=True)
class Performance:
    """Measured times: `queue` between asking for agents and their starts, summed over runs.

    `hold` is how long some boundary was held or some agent suspended, `human` how long a question
    to a human was open.
    """

    savings: Savings
    wall: timedelta
    queue: timedelta
    hold: timedelta
    human: timedelta


async def measure(connection: AsyncConnection, number: str, until: datetime) -> Performance:
    """Everything up to that moment, from the recorded intervals and phases."""
    reads = (_WORK, _ASKED, _HELD, _PHASES)
    work, asked, held, phases = await read_together(
        connection, *((each, {"number": number}) for each in reads)
    )
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
    opened = [at for target, at in phases if target == RequirementState.RUNNING]
    ended = [at for target, at in phases if RequirementState(target).is_final]
    return max(timedelta(), (ended[0] if ended else until) - opened[0]) if opened else timedelta()


def _suspended(ended: datetime, suspensions: Sequence[datetime]) -> Sequence[Interval]:
    """What `between` leaves out: from the first suspension on it is the other way round."""
    return between(suspensions[0], ended, suspensions[1:]) if suspensions else ()


def _interval(begin: datetime, end: datetime) -> Interval:
    """A clock that was set back meanwhile must not stop a requirement from ending."""
    return Interval(begin, max(begin, end))


def _together(intervals: Sequence[Interval]) -> timedelta:
    """The length of their union."""
    return savings(intervals).parallel if intervals else timedelta()
