"""When the clone of a run's agent was prepared: shown apart from the agent's own time."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.tables import RunRow
from adapters.sdlc.transaction import RequirementWrite, StageRecord
from pipeline.events import EventType
from pipeline.model import Preparation, StageRequest, StageState

_PREPARED = select(RunRow.prepared, RunRow.prepare_started_at, RunRow.prepare_ended_at).where(
    RunRow.run_id == bindparam("run_id")
)


async def start_preparing(
    connection: AsyncConnection, request: StageRequest, builds: Sequence[str]
) -> None:
    """The clone of an open run is being prepared; one that has come to its end is left alone.

    What a crash has cut off begins again, and is told once.
    """
    write, stage, row = await _open_run(connection, request)
    if row is None or row["prepare_ended_at"]:
        return
    started = {"prepared": list(builds), "prepare_started_at": write.at}
    write.update(RunRow, {"run_id": request.run_id}, **started)
    if row["prepare_started_at"] is None:
        fields = {**_names(stage), "builds": list(builds)}
        write.tell(request.run_id, EventType.STAGE_PREPARING, fields)
    await write.flush()


async def end_preparing(
    connection: AsyncConnection, request: StageRequest, preparation: Preparation | None
) -> None:
    """It has come to its end; None if that was found done. A repeat does nothing."""
    write, stage, row = await _open_run(connection, request)
    if row is None or row["prepare_ended_at"] or not row["prepare_started_at"]:
        return
    ended = preparation.result.ended_at if preparation else write.at
    write.update(RunRow, {"run_id": request.run_id}, prepare_ended_at=ended)
    took = max(ended - row["prepare_started_at"], timedelta())
    fields = {
        **_names(stage),
        "builds": row["prepared"],
        "passed": preparation is None or preparation.is_green,
        "duration": took // timedelta(milliseconds=1),
    }
    write.tell(request.run_id, EventType.STAGE_PREPARED, fields)
    await write.flush()


def _names(stage: StageRecord) -> dict[str, object]:
    return {"stage": stage.stage, "agent": stage.agent, "attempt": stage.attempt}


async def _open_run(
    connection: AsyncConnection, request: StageRequest
) -> tuple[RequirementWrite, StageRecord, Any]:
    """What is known of the preparation of the run; None instead of it if the run is not open."""
    write = await RequirementWrite.lock(connection, request.ref.number)
    await write.load_stages()
    stage = write.stage(request.stage.name)
    rows = await write.read(_PREPARED, run_id=request.run_id)
    is_open = stage.run_id == request.run_id and stage.state is StageState.RUNNING
    return write, stage, rows[0] if is_open and rows else None
