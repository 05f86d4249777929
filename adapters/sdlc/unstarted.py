"""Fixes whose requirement ended before their workflows began."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import FixRow, RequirementRow
from pipeline.model import Closing, RequirementState


async def cancel_unstarted_fixes(connection: AsyncConnection, closing: Closing) -> None:
    """Close the rows of fixes that were opened and never started: nobody else would.

    The requirement ends after everything below it, so what is still ACCEPTED stays so.
    """
    query = (
        select(FixRow.number)
        .join(RequirementRow, RequirementRow.number == FixRow.number)
        .where(
            FixRow.root == closing.ref.number,
            RequirementRow.state == str(RequirementState.ACCEPTED),
        )
        .order_by(FixRow.number)
    )
    for number in list((await connection.execute(query)).scalars()):
        write = await RequirementWrite.lock(connection, number)
        why = f"{closing.ref.number} ended before it began."
        write.move(RequirementState.CANCELLED, who=closing.who, why=why)
        write.set(reason=why, waiting_for="", ended_at=write.at)
        await write.flush()
