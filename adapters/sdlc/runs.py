"""What a host tells outside the stages' transactions: that runs began and ended, and its slots."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime

from sqlalchemy import update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc_tables import CostRow, HostRow, RunRow
from pipeline.model import RunResult, SlotUsage


async def start_run(
    connection: AsyncConnection, run_id: str, at: datetime, base_commit: str
) -> None:
    """The agent was really started; a repeat, or a run that is over, changes nothing."""
    is_open = (RunRow.run_id == run_id) & RunRow.closed_at.is_(None) & (RunRow.starts == 0)
    started = {"starts": 1, "started_at": at, "base_commit": base_commit or None}
    await connection.execute(update(RunRow).where(is_open).values(started))


async def record_usage(connection: AsyncConnection, host: str, usage: SlotUsage) -> None:
    """How many slots of a host are used, for those who wait for one."""
    values = {**asdict(usage), "updated_at": datetime.now(UTC)}
    row = insert(HostRow).values(host=host, **values)
    await connection.execute(row.on_conflict_do_update(index_elements=["host"], set_=values))


async def record_ends(
    connection: AsyncConnection, number: str, results: Mapping[str, RunResult]
) -> None:
    """How runs ended that no stage has closed, and what they cost; a repeat changes nothing."""
    for run_id, result in results.items():
        agent = await _end(connection, run_id, result)
        if agent is not None:
            seconds = result.elapsed.total_seconds()
            cost = insert(CostRow).values(
                run_id=run_id, number=number, agent=agent, seconds=seconds
            )
            await connection.execute(cost.on_conflict_do_nothing())


async def _end(connection: AsyncConnection, run_id: str, result: RunResult) -> str | None:
    """The agent of the run; None if its end is known or it was never opened."""
    is_unended = (RunRow.run_id == run_id) & RunRow.end.is_(None)
    ended = (
        update(RunRow)
        .where(is_unended)
        .values(
            starts=result.starts,
            started_at=result.started_at,
            ended_at=result.ended_at,
            suspensions=list(result.suspensions),
            end=str(result.end),
            exit_code=result.exit_code,
            log_reference=result.log_reference,
        )
        .returning(RunRow.agent)
    )
    return (await connection.execute(ended)).scalar_one_or_none()
