"""Rows of requirements that are open although no workflow works on them: started, or closed."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client, WorkflowFailureError
from temporalio.exceptions import (
    ApplicationError,
    CancelledError,
    FailureError,
    TerminatedError,
)
from temporalio.service import RPCError

from adapters.care.care import LOOK_SECONDS
from adapters.installation import Identity
from adapters.sdlc.database import Database
from adapters.sdlc.orphans import OpenRow, open_row, open_rows, order_of
from adapters.sdlc.requirements import cancel_unstarted_fixes
from adapters.sdlc.store import PostgresSdlcStore
from adapters.temporal.client import reaching_temporal
from adapters.temporal.workflows import WorkflowStatus, running_workflows, workflow_status
from adapters.waiting import within
from pipeline.errors import AlreadyStarted, NotRepairable, NumberElsewhere
from pipeline.failures import cut
from pipeline.installation import Queues
from pipeline.model import (
    NOT_DELIVERED,
    SASHA,
    Alert,
    AlertKind,
    Closing,
    DeliveryReport,
    RequirementOrder,
    RequirementRef,
    RequirementState,
)

Start = Callable[[Client, Queues, RequirementOrder], Awaitable[object]]
"""Starts a requirement's workflow. Raises: AlreadyStarted, NumberElsewhere."""

_ANSWER_SECONDS = 0.9 * LOOK_SECONDS
GRACE = timedelta(minutes=1)
"""A row that was just written belongs to somebody: a start, a stage, an end under way."""

MOST = 500
"""Rows looked at more closely, which takes some milliseconds each; the others have their turn."""

_COMPONENT = "record"
_WORKFLOW_TYPE = "RequirementWorkflow"
_AT_ONCE = 20


@dataclass(frozen=True)
class Ending:
    """The end that is to be recorded; `commit` is what was delivered."""

    state: RequirementState
    reason: str
    commit: str = ""


class RecordCare:
    """Compares open rows with Temporal: starts what was never started, closes what has ended."""

    kinds = frozenset({AlertKind.ROW_WITHOUT_WORKFLOW})
    prefix = ""
    blind = Alert(AlertKind.ROW_WITHOUT_WORKFLOW, _COMPONENT)

    def __init__(
        self,
        identity: Identity,
        store: PostgresSdlcStore,
        database: Database,
        start: Start,
        grace: timedelta = GRACE,
    ) -> None:
        """Read with `database`, write with `store`; neither is closed here."""
        self._identity = identity
        self._temporal = identity.client
        self._queues = identity.installation.queues
        self._store = store
        self._database = database
        self._start = start
        self._grace = grace

    async def look(self) -> Sequence[Alert]:
        """One alert for each such row, the most urgent first; at most `MOST` at a time.

        Raises: DependencyUnavailable without database or Temporal: what is down shows elsewhere.
        """
        try:
            return await within(_ANSWER_SECONDS, self._unattended())
        except (TimeoutError, RPCError, SQLAlchemyError) as error:
            detail = f"Open rows could not be compared with Temporal: {error}"
            return (replace(self.blind, detail=cut(detail)),)

    async def act(self, alert: Alert) -> str:
        """Start the workflow or close the row, if that is still called for.

        Raises: DependencyUnavailable, WrongInstallation where this is not the Temporal that they
            were started on; NotRepairable where rows cannot be compared with it.
        """
        number = alert.subject
        if not number:  # not a row: the check itself has failed, which only a human can repair
            raise NotRepairable(alert.detail)
        row = await self._database.read(lambda c: open_row(c, number, self._grace))
        status = await self._status(number)
        await self._identity.prove()  # what has just answered is the Temporal they were started on
        if row is None or not _flaw(row, status):
            return f"{number} has gone on or ended."
        if status and _is_of(status, row):
            return await self._close(row, status.first_run, await self._ending(row, status))
        if not row.may_be_started:
            ending = Ending(
                RequirementState.FAILED, "Temporal does not know its workflow any more."
            )
            return await self._close(row, row.workflow_run or "", ending)
        return await (self._cancel(row.root) if row.root else self._start_again(number))

    async def _unattended(self) -> Sequence[Alert]:
        rows = await self._database.read(lambda c: open_rows(c, self._grace))
        if not rows:
            return []
        await self._identity.prove()
        running = await running_workflows(self._temporal, self._queues, _WORKFLOW_TYPE)
        suspects = [row for row in rows if row.number not in running][:MOST]
        slots = asyncio.Semaphore(_AT_ONCE)

        async def examine(row: OpenRow) -> str:
            async with slots:
                return _flaw(row, await self._status(row.number))

        flaws = await asyncio.gather(*map(examine, suspects))
        return [
            Alert(AlertKind.ROW_WITHOUT_WORKFLOW, _COMPONENT, row.number, flaw)
            for row, flaw in zip(suspects, flaws, strict=True)
            if flaw
        ]

    async def _ending(self, row: OpenRow, status: WorkflowStatus) -> Ending:
        with reaching_temporal(self._temporal):
            return await _ending_of(self._temporal, row.number, status.run)

    async def _status(self, number: str) -> WorkflowStatus | None:
        """How our workflow of that number stands; another installation's is none of ours."""
        status = await workflow_status(self._temporal, number)
        return status if status and status.queue == self._queues.central else None

    async def _close(self, row: OpenRow, first_run: str, ending: Ending) -> str:
        ref = RequirementRef(row.number, row.workflow_run or first_run)
        closing = Closing(ref, ending.state, ending.reason, ending.commit, SASHA)
        await self._store.close_requirement(closing)
        return f"{row.number} is {ending.state}: {ending.reason}"

    async def _cancel(self, root: str) -> str:
        closing = Closing(RequirementRef(root, ""), RequirementState.CANCELLED, "", who=SASHA)
        await self._database.write(lambda c: cancel_unstarted_fixes(c, closing))
        return f"Fixes of {root} that never began are CANCELLED: it has ended."

    async def _start_again(self, number: str) -> str:
        order = await self._database.read(lambda c: order_of(c, number))
        try:
            with reaching_temporal(self._temporal):
                await self._start(self._temporal, self._queues, order)
        except NumberElsewhere as refusal:
            row = OpenRow(number, RequirementState.ACCEPTED, None, None, False, True)
            return await self._close(row, "", Ending(RequirementState.FAILED, str(refusal)))
        except AlreadyStarted:
            return f"A workflow works on {number}."
        return f"{number} was started: its start had got no further than its row."


def _is_of(status: WorkflowStatus, row: OpenRow) -> bool:
    """Whether the workflow is the one that the row tells of, and no namesake of elsewhere."""
    return row.workflow_run in (None, status.first_run)


def _flaw(row: OpenRow, status: WorkflowStatus | None) -> str:
    if status is None and row.awaits_orchestrator:
        return ""
    if status is None or not _is_of(status, row):
        return f"{row.number} is {row.state}, and Temporal does not know its workflow."
    if status.has_ended:
        return f"{row.number} is {row.state}, and its workflow has ended."
    return ""


async def _ending_of(client: Client, workflow_id: str, run: str) -> Ending:
    """How that run has ended; it must have. Raises: temporalio's RPCError."""
    handle = client.get_workflow_handle(workflow_id, run_id=run, result_type=DeliveryReport)
    try:
        report = await handle.result(follow_runs=False)
    except WorkflowFailureError as failure:
        return _failed_ending(failure.cause)
    return Ending(report.state, report.reason, report.commit)


def _failed_ending(cause: BaseException) -> Ending:
    if isinstance(cause, TerminatedError):
        said = cause.message.removeprefix("Workflow terminated").strip(": ")
        reason = f"Terminated in Temporal: {said}" if said else "Terminated in Temporal."
        return Ending(RequirementState.CANCELLED, cut(reason))
    if isinstance(cause, CancelledError):
        return Ending(RequirementState.CANCELLED, "Cancelled.")
    if isinstance(cause, ApplicationError) and cause.type == NOT_DELIVERED:
        return Ending(RequirementState.FAILED, cause.message)
    return Ending(RequirementState.FAILED, cut(f"Its workflow failed: {_innermost(cause)}"))


def _innermost(error: BaseException) -> str:
    """What really went wrong: the outer ones only say that something has."""
    while isinstance(error, FailureError) and error.cause:
        error = error.cause
    return str(error) or type(error).__name__
