"""Errors that nobody foresaw: each becomes an incident, and nothing waits for ever behind it."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.sasha import SashaActivities
    from pipeline.failures import cut
    from pipeline.model import Incident, IncidentEnd, Symptom, SymptomKind
    from workflows import options
    from workflows.failures import describe, words

T = TypeVar("T")

_DETAIL_LENGTH = 2_000


class Faults:
    """The tasks that a workflow runs beside its main flow, and what became of their errors.

    The main flow would never see the error of such a task, or only as its own: the task would be a
    key that stays behind, or the workflow would stand still at the same error for ever.
    """

    def __init__(self) -> None:
        self._count = 0
        self._records: list[asyncio.Task[None]] = []

    def detach(
        self,
        work: Coroutine[Any, Any, T],
        what: str,
        instead: Callable[[Exception], T],
        place: Callable[[], str] = str,
    ) -> asyncio.Task[T]:
        """Do the work in a task of its own; an error is an incident, and `instead` its result."""
        return asyncio.create_task(self._watched(work, what, instead, place))

    def report(self, what: str, error: Exception, place: str = "") -> None:
        """Write an incident down, beside whatever goes on."""
        self._count += 1
        info, now = workflow.info(), workflow.now()
        workflow.logger.error("%s: %s failed", info.workflow_id, what, exc_info=error)
        detail = cut(f"{what}: {words(error)}", _DETAIL_LENGTH)
        symptom = Symptom(SymptomKind.WORKFLOW_FAULT, "workflow", info.workflow_id, detail)
        incident_id = f"{info.run_id}/fault/{self._count}"
        incident = Incident(incident_id, place, symptom, IncidentEnd.LEFT, (), now, now)
        self._records = [record for record in self._records if not record.done()]
        self._records.append(asyncio.create_task(_record(incident)))

    async def recorded(self, patience: timedelta) -> None:
        """Wait a moment until what was reported is written: an end would take it along."""
        if waiting := [record for record in self._records if not record.done()]:
            await workflow.wait(waiting, timeout=patience.total_seconds())

    async def _watched(
        self,
        work: Coroutine[Any, Any, T],
        what: str,
        instead: Callable[[Exception], T],
        place: Callable[[], str],
    ) -> T:
        try:
            return await work
        except workflow.NondeterminismError:
            raise  # the history is right and the code is wrong: nothing may be decided by it
        except Exception as error:
            if is_cancelled_exception(error):
                raise
            self.report(what, error, place())
            return instead(error)


async def _record(incident: Incident) -> None:
    try:
        await workflow.execute_activity_method(
            SashaActivities.record_incident, incident, **options.lasting("A fault")
        )
    except ActivityError as error:
        workflow.logger.error("An incident is not written down: %s", describe(error))
