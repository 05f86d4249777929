"""Sasha's looks and actions, at the house or at a host."""

from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.sasha import HostCareActivities, SashaActivities
    from pipeline.model import Symptom, Treatment
    from pipeline.remedies import Finding
    from workflows import options
    from workflows.failures import describe

_LONGEST_PAUSE = timedelta(seconds=15)
"""Between two looks while something is given time to show."""


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
    """Act once; what was done, or why it could not be done."""
    treatment = Treatment(place, symptom)
    step = HostCareActivities.act_on_host if place else SashaActivities.act_on_house
    try:
        return await workflow.execute_activity_method(
            step,
            treatment,
            **options.care(place, f"Treat {symptom.kind} {symptom.subject}".strip()),
        )
    except ActivityError as error:
        if is_cancelled_exception(error):
            raise
        return describe(error)


async def is_over(place: str, symptom: Symptom, patience: timedelta) -> bool:
    """Whether a fresh look within that time does not find the symptom any more."""
    until, pause = workflow.now() + patience, timedelta(seconds=1)
    while True:
        seen = await look(place)
        if seen is not None and all(each.symptom.key != symptom.key for each in seen):
            return True
        if workflow.now() >= until:
            return False
        await workflow.sleep(pause, summary=f"Give {symptom.component} time")
        pause = min(2 * pause, _LONGEST_PAUSE)
