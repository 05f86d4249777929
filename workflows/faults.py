"""Errors inside a workflow: what a failed activity means, and what an unforeseen error does."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    TimeoutError,
    is_cancelled_exception,
)

with workflow.unsafe.imports_passed_through():
    from activities.sasha import SashaActivities
    from pipeline.errors import (
        AgentsFileRefused,
        HostLost,
        IllegalTransition,
        OtherProject,
        RetriesExhausted,
        StaleAttempt,
        UnknownRequirement,
    )
    from pipeline.failures import cut
    from pipeline.model import (
        Alert,
        AlertKind,
        Failure,
        FailureKind,
        Incident,
        IncidentEnd,
    )
    from workflows import options

T = TypeVar("T")

_OVERTAKEN = {each.__name__ for each in (IllegalTransition, StaleAttempt, UnknownRequirement)}
_INFRASTRUCTURE = {each.__name__ for each in (RetriesExhausted, HostLost)}
"""Final, and yet nothing that was asked for is at fault: a retry may continue the same attempt."""
_MENDABLE = {each.__name__ for each in (AgentsFileRefused, OtherProject)}
_DETAIL_LENGTH = 2_000


def failure_of(error: ActivityError, *, stage: str, gate: str, owners: tuple[str, ...]) -> Failure:
    """The failure behind an activity's error: a typed refusal, or an infrastructure loss.

    Raises: the error itself if it is a cancellation.
    """
    if is_cancelled_exception(error):
        raise error
    kind = FailureKind.REFUSED if _is_refused(error) else FailureKind.INFRASTRUCTURE
    return Failure(stage, kind, gate, kind.owners(*owners), cut(describe(error)))


def fault_of(error: Exception, *, stage: str, gate: str) -> Failure:
    """The failure behind an unforeseen error: no agent owns it."""
    return Failure(stage, FailureKind.INFRASTRUCTURE, gate, (), cut(words(error)))


def is_infrastructure(error: ActivityError) -> bool:
    """Whether its retries are exhausted, or no worker took it."""
    return not (is_cancelled_exception(error) or _is_refused(error))


def is_mendable(error: ActivityError) -> bool:
    """Whether a file or a setting refused it that somebody can mend: not for good."""
    return isinstance(error.cause, ApplicationError) and error.cause.type in _MENDABLE


def can_resume(error: ActivityError) -> bool:
    """Whether a retry may resume this attempt: the database has not moved past it."""
    return not (isinstance(error.cause, ApplicationError) and error.cause.type in _OVERTAKEN)


def describe(error: ActivityError) -> str:
    """The cause in words: `str` of an ActivityError itself identifies nothing."""
    cause = error.cause or error
    if isinstance(cause, TimeoutError):  # Temporal's own words are about its schedule
        last = f"; before that: {cause.cause}" if cause.cause else ""
        return f"it did not end in the time that it had{last}"
    if isinstance(cause, ApplicationError):
        return cause.message
    return f"{type(cause).__name__}: {cause}"


def words(error: Exception) -> str:
    """The error in words; for an activity, its cause."""
    if isinstance(error, ActivityError):
        return describe(error)
    return f"{type(error).__name__}: {error}"


def _is_refused(error: ActivityError) -> bool:
    cause = error.cause
    is_final = isinstance(cause, ApplicationError) and cause.non_retryable
    return is_final and cause.type not in _INFRASTRUCTURE  # type: ignore[union-attr] # it is


async def gather_all(tasks: Iterable[asyncio.Task[object]]) -> None:
    """Wait until every task has ended, cancelled ones included.

    A plain `gather` ends with the first error, while the others still run unseen.
    Raises: the first error that is not a cancellation.
    """
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        # a cancelled activity raises an ActivityError, which is an Exception like any other
        if isinstance(result, Exception) and not is_cancelled_exception(result):
            raise result


class Faults:
    """Tasks beside a workflow's main flow: an error in one becomes an incident.

    The main flow would never see it, or would fail its own task with it again and again.
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
        """Record an incident in the background."""
        self._count += 1
        info, now = workflow.info(), workflow.now()
        workflow.logger.error("%s: %s failed", info.workflow_id, what, exc_info=error)
        detail = cut(f"{what}: {words(error)}", _DETAIL_LENGTH)
        alert = Alert(AlertKind.WORKFLOW_FAULT, "workflow", info.workflow_id, detail)
        incident_id = f"{info.run_id}/fault/{self._count}"
        incident = Incident(incident_id, place, alert, IncidentEnd.LEFT, (), now, now)
        self._records = [record for record in self._records if not record.done()]
        self._records.append(asyncio.create_task(_record(incident)))

    async def recorded(self, patience: timedelta) -> None:
        """Give reported incidents a moment to be recorded: the end of the workflow drops them."""
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
