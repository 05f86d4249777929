"""An alert is repaired by its remedy: bounded actions, each verified by a look, then escalated."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    TimeoutError,
    TimeoutType,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from activities.sasha import HostCareActivities, SashaActivities
    from pipeline.errors import NoWorker
    from pipeline.model import Alert, IncidentEnd, Watch
    from pipeline.runbook import Finding, RunbookEntry
    from workflows import options
    from workflows.faults import describe

Key = tuple[str, str, str]
"""Place, kind and subject of an alert."""

_CONFIRMED = timedelta(seconds=2)
"""Before the first action: a single look may be wrong, and nothing is restarted because of one."""


@dataclass
class Remediation:
    """An alert that is being repaired, and what has been done about it so far."""

    place: str
    alert: Alert
    remedy: RunbookEntry
    began: datetime
    actions: list[str] = field(default_factory=list)
    again: timedelta = timedelta()
    """How long it is left alone afterwards; not at all if its place was out of reach."""

    @property
    def key(self) -> Key:
        """What tells it from other cases."""
        return (self.place, *self.alert.key)

    async def remediate(self) -> IncidentEnd:
        """Act as often as the remedy allows, until a look no longer finds the alert.

        If the place has no worker, the alert is left: no attempt was made.
        """
        try:
            return await self._remediate()
        except NoWorker as error:
            self.actions.append(str(error))
            return IncidentEnd.LEFT

    async def _remediate(self) -> IncidentEnd:
        if await is_over(self.place, self.alert, _CONFIRMED):
            return IncidentEnd.PASSED
        for _ in range(self.remedy.attempts):
            self.actions.append(await act(self.place, self.alert))
            if await is_over(self.place, self.alert, self.remedy.shows_within):
                return IncidentEnd.REPAIRED
        self.again = self.remedy.again
        return IncidentEnd.ESCALATED if self.remedy.escalates else IncidentEnd.LEFT


async def look(place: str) -> tuple[Finding, ...] | None:
    """What is wrong there; None if nobody could look: the host has no worker at present."""
    try:
        if not place:
            return await workflow.execute_activity_method(
                SashaActivities.look_at_cluster, **options.care("", "Look at the cluster")
            )
        return await workflow.execute_activity_method(
            HostCareActivities.look_at_host, **options.care(place, f"Look at {place}")
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return None


async def act(place: str, alert: Alert) -> str:
    """Act once; what was done, or why it could not be done. Raises: NoWorker."""
    step = HostCareActivities.act_on_host if place else SashaActivities.act_on_cluster
    try:
        return await workflow.execute_activity_method(
            step,
            alert,
            **options.care(place, f"Repair {alert.kind} {alert.subject}".strip()),
        )
    except ActivityError as error:
        _raise_if_not_tried(error)
        return describe(error)


async def is_over(place: str, alert: Alert, patience: timedelta) -> bool:
    """Whether a fresh look within that time no longer finds the alert.

    Raises: NoWorker.
    """
    step = HostCareActivities.watch_host if place else SashaActivities.watch_cluster
    summary = f"Give {alert.component} time"
    try:
        return await workflow.execute_activity_method(
            step, Watch(alert, patience), **options.watch(place, patience, summary)
        )
    except ActivityError as error:
        _raise_if_not_tried(error)
        return False


def _raise_if_not_tried(error: ActivityError) -> None:
    if is_cancelled_exception(error):
        raise error
    cause = error.cause
    if isinstance(cause, TimeoutError) and cause.type is TimeoutType.SCHEDULE_TO_START:
        raise NoWorker from error
