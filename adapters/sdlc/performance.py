"""What running in parallel brought, and where the rest of the time went."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import CompoundSelect, bindparam, literal, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc_tables import EscalationRow, FixRow, GateRow, PhaseRow, RunRow
from pipeline.model import RequirementState
from pipeline.savings import Interval, Savings, savings

_FIXES = select(FixRow.number).where(FixRow.root == bindparam("number"))
_WORK: CompoundSelect[datetime, datetime, datetime] = union_all(
    select(RunRow.opened_at.label("asked_at"), RunRow.started_at, RunRow.ended_at).where(
        (RunRow.number == bindparam("number")) | RunRow.number.in_(_FIXES),
        RunRow.started_at.is_not(None),
        RunRow.ended_at.is_not(None),
    ),
    # Of the gates only builds are work of their own: the others were decided by runs.
    select(GateRow.started_at.label("asked_at"), GateRow.started_at, GateRow.ended_at).where(
        GateRow.number == bindparam("number"), GateRow.evidence.is_not(None)
    ),
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


@dataclass(frozen=True)
class Performance:
    """Measured times: `queue` between asking for agents and their starts, summed over runs.

    `human` is how long a question to a human was open.
    """

    savings: Savings
    wall: timedelta
    queue: timedelta
    hold: timedelta
    human: timedelta


async def measure(connection: AsyncConnection, number: str, until: datetime) -> Performance:
    """Everything up to that moment, from the recorded intervals and phases."""
    work = (await connection.execute(_WORK, {"number": number})).all()
    asked = (await connection.execute(_ASKED, {"number": number})).all()
    phases = [(p.target, p.at) for p in await connection.execute(_PHASES, {"number": number})]
    waits = (max(timedelta(), each.started_at - each.asked_at) for each in work)
    return Performance(
        # A clock that was set back while an agent ran must not stop its requirement from ending.
        savings([Interval(w.started_at, max(w.started_at, w.ended_at)) for w in work]),
        wall=_wall(phases, until),
        queue=sum(waits, timedelta()),
        hold=_time_in(RequirementState.HELD, phases, until),
        human=_together([Interval(a.created_at, a.answered_at or until) for a in asked]),
    )


def _wall(phases: Sequence[tuple[str, datetime]], until: datetime) -> timedelta:
    """From the opening to the end."""
    opened = [at for target, at in phases if target == RequirementState.RUNNING]
    ended = [at for target, at in phases if RequirementState(target).is_final]
    return max(timedelta(), (ended[0] if ended else until) - opened[0]) if opened else timedelta()


def _together(intervals: Sequence[Interval]) -> timedelta:
    """The length of their union."""
    return savings(intervals).parallel if intervals else timedelta()


def _time_in(
    state: RequirementState, phases: Sequence[tuple[str, datetime]], until: datetime
) -> timedelta:
    ends = [at for _, at in phases[1:]] + [until]
    spans = (end - at for (target, at), end in zip(phases, ends, strict=True) if target == state)
    return sum(spans, timedelta())
