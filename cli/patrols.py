"""The schedules by which Sasha is asked to look at each host."""

from dataclasses import dataclass
from datetime import datetime

from temporalio.client import Client, ScheduleListDescription

from adapters.temporal.client import reaching_temporal
from pipeline.installation import Installation


@dataclass(frozen=True)
class Patrol:
    """One host's schedule: its latest start, its next, and whether somebody has paused it."""

    host: str
    is_paused: bool
    last_at: datetime | None
    next_at: datetime | None


async def patrols(client: Client, installation: Installation) -> tuple[Patrol, ...]:
    """Those of each of its hosts that ever had a worker. Raises: DependencyUnavailable."""
    prefix = installation.patrol_prefix
    with reaching_temporal(client):
        listed = [each async for each in await client.list_schedules()]
    return tuple(_patrol(each, prefix) for each in listed if each.id.startswith(prefix))


def _patrol(listed: ScheduleListDescription, prefix: str) -> Patrol:
    past = listed.info.recent_actions if listed.info else ()
    future = listed.info.next_action_times if listed.info else ()
    return Patrol(
        listed.id.removeprefix(prefix),
        bool(listed.schedule and listed.schedule.state.paused),
        past[-1].started_at if past else None,
        future[0] if future else None,
    )
