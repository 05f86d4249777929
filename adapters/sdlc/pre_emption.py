"""Running agents stand still while a P0 is open that was started to pre-empt them."""

from sqlalchemy import exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.holding import hold_back, let_go
from adapters.sdlc.line import HAS_NOT_ENDED, PRE_EMPTING, is_exempt, share_line, waited_for
from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import HoldRow, RequirementRow, RunRow
from pipeline.model import PRE_EMPTION, Hold, Priority, RequirementRef, StageState


async def stand_still(connection: AsyncConnection, ref: RequirementRef, waiter: str) -> Hold | None:
    """Whether the requirement's agents must stand still, and for whom; None: they may go on.

    Without agents there is nothing to stand still: whatever is to start is held at the gate.

    Raises: UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, ref.number)
    if write.state.is_final:  # it ended after it was told; its agents are ended, too
        return None
    epoch = await share_line(write)
    found = (await connection.execute(PRE_EMPTING)).scalars()
    by = tuple(sorted(found))
    if by and not await is_exempt(write) and await _has_agents(connection, ref.number):
        reason = f"{', '.join(by)} pre-empts what runs."
        hold = await hold_back(write, Hold(PRE_EMPTION, by, reason, epoch, write.at), waiter)
    else:
        hold = None
        await let_go(write, waiter, agents=True)
    await write.flush()
    return hold


async def _has_agents(connection: AsyncConnection, number: str) -> bool:
    is_open = (RunRow.number == number) & (RunRow.state == str(StageState.RUNNING))
    return (
        await connection.execute(select(RunRow.run_id).where(is_open).limit(1))
    ).first() is not None


_HAS_AGENTS = exists().where(
    RunRow.number == RequirementRow.number, RunRow.state == str(StageState.RUNNING)
)
_IS_TOLD = exists().where(
    HoldRow.number == RequirementRow.number,
    HoldRow.boundary == PRE_EMPTION,
    HoldRow.ended_at.is_(None),
)


async def to_pre_empt(connection: AsyncConnection, *, missed: bool = False) -> tuple[str, ...]:
    """Every requirement and fix whose agents have to stand still; empty while no P0 pre-empts.

    `missed`: only those whose agents run all the same, since the signal to them was lost.
    """
    if (await connection.execute(PRE_EMPTING)).first() is None:
        return ()
    query = (
        select(RequirementRow.number)
        .where(
            RequirementRow.priority != str(Priority.P0),
            HAS_NOT_ENDED,
            RequirementRow.workflow_run.is_not(None),
            RequirementRow.number.not_in(waited_for(PRE_EMPTING)),
        )
        .order_by(RequirementRow.number)
    )
    if missed:
        query = query.where(_HAS_AGENTS, ~_IS_TOLD)
    return tuple((await connection.execute(query)).scalars())
