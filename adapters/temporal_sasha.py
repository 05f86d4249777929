"""The port `Sasha` on Temporal: one workflow that everybody may call, and its patrol."""

from datetime import timedelta

from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)
from temporalio.service import RPCError

from pipeline.errors import DependencyUnavailable
from pipeline.installation import Installation
from pipeline.model import SashaCall, SashaState


class TemporalSasha:
    """Reaches Sasha. Names are strings: adapters know no workflows."""

    def __init__(self, client: Client, installation: Installation) -> None:
        self._client = client
        self._installation = installation
        self._queue = installation.queues.central

    async def call(self, call: SashaCall) -> None:
        """Signal her, with a start if she is not there. Raises: DependencyUnavailable."""
        try:
            await self._client.start_workflow(
                "SashaWorkflow",
                SashaState(),
                id=self._installation.sasha,
                task_queue=self._queue,
                start_signal="call",
                start_signal_args=[call],
                static_summary="Looks after the infrastructure",
            )
        except RPCError as error:
            address = self._client.service_client.config.target_host
            remedy = f"Sasha was not called: {error.message}"
            raise DependencyUnavailable("Temporal", address, remedy) from error

    async def patrol(self, host: str, every: timedelta) -> None:
        """Have her look at the house and that host at intervals, from now on."""
        schedule_id = f"{self._installation.patrol_prefix}{host}"
        schedule = self._schedule(schedule_id, host, every)
        try:
            await self._client.create_schedule(schedule_id, schedule)
        except ScheduleAlreadyRunningError:

            def renewed(_: ScheduleUpdateInput) -> ScheduleUpdate:
                return ScheduleUpdate(schedule)

            await self._client.get_schedule_handle(schedule_id).update(renewed)

    def _schedule(self, name: str, host: str, every: timedelta) -> Schedule:
        action = ScheduleActionStartWorkflow(
            "PatrolWorkflow", host, id=name, task_queue=self._queue,
            static_summary=f"Sasha is asked to look at {host}",
        )  # fmt: skip
        return Schedule(
            action=action,
            spec=ScheduleSpec(intervals=[ScheduleIntervalSpec(every=every)]),
            # What was missed while nothing ran is of no interest: one look sees all.
            policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP, catchup_window=every),
        )
