"""A group is complete when its last stage is."""

from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, select

from adapters.sdlc.writing import RequirementWrite, StageRecord
from adapters.sdlc_tables import RunRow
from pipeline.events import EventType
from pipeline.model import StageState

_SPAN = select(func.min(RunRow.started_at), func.max(RunRow.ended_at)).where(
    RunRow.number == bindparam("number"), RunRow.stage.in_(bindparam("stages", expanding=True))
)


async def complete_group(write: RequirementWrite, stage: StageRecord) -> None:
    """Say `group.completed` if this stage, just moved, was the last one of its group to be done.

    The requirement's row is locked, so of two stages that end at once the second sees the first.
    """
    group = [record for record in write.stages.values() if record.group == stage.group]
    if not all(record.state.is_done for record in group):
        return
    completed = [record for record in group if record.state is StageState.COMPLETED]
    write.tell(
        str(stage.run_id),
        EventType.GROUP_COMPLETED,
        {
            "group": stage.group,
            "duration": await _duration(write, completed) // timedelta(milliseconds=1),
            "stagesCompleted": len(completed),
        },
    )


async def _duration(write: RequirementWrite, completed: list[StageRecord]) -> timedelta:
    """From the group's first start, earlier attempts included, to its last end."""
    if not completed:
        return timedelta()
    first, last = await _earlier_attempts(write, completed)
    starts = _known(first, *(record.started_at for record in completed))
    ends = _known(last, *(record.ended_at for record in completed))
    return max(timedelta(), max(ends) - min(starts)) if starts and ends else timedelta()


async def _earlier_attempts(
    write: RequirementWrite, completed: list[StageRecord]
) -> tuple[datetime | None, datetime | None]:
    """Their first start and last end, if there were any."""
    repeated = [record.stage for record in completed if record.attempt > 1]
    if not repeated:
        return None, None
    key = {"number": write.number, "stages": repeated}
    first, last = (await write.connection.execute(_SPAN, key)).one()
    return first, last


def _known(*times: datetime | None) -> list[datetime]:
    return [time for time in times if time is not None]
