"""Sasha's looks and actions, at the house or at a host."""

from datetime import timedelta

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
    from pipeline.model import Symptom, Watch
    from pipeline.remedies import Finding
    from workflows import options
    from workflows.faults import describe


async def look(place: str) -> tuple[Finding, ...] | None:
    """What is wrong there; None if nobody could look: the host has no worker at present."""
    try:
        if not place:
            return await workflow.execute_activity_method(
                SashaActivities.look_at_house, **options.care("", "Look at the house")
            )
        return await workflow.execute_activity_method(
            HostCareActivities.look_at_host, **options.care(place, f"Look at {place}")
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return None


async def act(place: str, symptom: Symptom) -> str:
    """Act once; what was done, or why it could not be done. Raises: NoWorker."""
    step = HostCareActivities.act_on_host if place else SashaActivities.act_on_house
    try:
        return await workflow.execute_activity_method(
            step,
            symptom,
            **options.care(place, f"Treat {symptom.kind} {symptom.subject}".strip()),
        )
    except ActivityError as error:
        _raise_if_not_tried(error)
        return describe(error)


async def is_over(place: str, symptom: Symptom, patience: timedelta) -> bool:
    """Whether within that time a fresh look does not find the symptom any more.

    Raises: NoWorker.
    """
    step = HostCareActivities.watch_host if place else SashaActivities.watch_house
    summary = f"Give {symptom.component} time"
    try:
        return await workflow.execute_activity_method(
            step, Watch(symptom, patience), **options.watch(place, patience, summary)
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
