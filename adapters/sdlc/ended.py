"""Which requirements have ended for good: nobody works on them any more."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ARRAY, Text, any_, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from adapters.sdlc_tables import FixRow, RequirementRow
from pipeline.model import RequirementState

_FINAL = [str(state) for state in RequirementState if state.is_final]
_ROOT = aliased(RequirementRow)


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
            RequirementRow.state.in_(_FINAL),
            or_(FixRow.number.is_(None), _ROOT.state.in_(_FINAL)),
        )
    )
    rows = await connection.execute(query)
    return {row.number: row.ended_at for row in rows if row.ended_at is not None}
