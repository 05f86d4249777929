"""The end of a requirement: processes and clones cleaned up, rows and events written, a report."""

from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.converter import PayloadConverter
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.delivery import DeliveryActivities
    from activities.persistence import shielded
    from activities.records import RecordActivities
    from pipeline.failures import truncated
    from pipeline.model import (
        NOT_DELIVERED,
        ORCHESTRATOR,
        Closing,
        Delivered,
        DeliveryReport,
        RequirementState,
    )
    from workflows import options
    from workflows.execution import Execution
    from workflows.faults import describe


class Ending:
    """Ends one requirement, delivered or not."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution

    async def give_up(
        self,
        state: RequirementState,
        reason: str,
        who: str = ORCHESTRATOR,
        *,
        is_hasty: bool = False,
    ) -> DeliveryReport:
        """Clean up its host without delivering, then close it.

        In haste it closes within seconds: the report names what could not be cleaned up, and the
        host keeps trying.
        """
        if self._execution.opening:
            self._execution.left = await self._release(is_hasty=is_hasty)
        return await self.close(state, reason, who)

    async def close(
        self,
        state: RequirementState,
        reason: str,
        who: str = ORCHESTRATOR,
        *,
        delivered: Delivered | None = None,
    ) -> DeliveryReport:
        """Record the end and report; from here on a cancellation comes too late."""
        self._execution.is_ending = True
        board, left = self._execution.board, self._execution.left
        host = self._execution.host if left else ""
        closing = Closing(
            self._execution.ref, state, reason, board.commit, who, left, host, delivered
        )
        await shielded(self._record(closing))
        number, failures = self._execution.order.number, truncated(board.open_failures())
        return DeliveryReport(number, state, reason, closing.commit, failures)

    async def _release(self, *, is_hasty: bool) -> str:
        """Clean up; returns why that failed: neither git nor a lost host prevents the end."""
        execution = self._execution
        config = options.release(execution.host, execution.order, is_hasty=is_hasty)
        try:
            if is_hasty:
                await workflow.execute_activity_method(
                    DeliveryActivities.release, execution.ref, **config
                )
            else:
                await execution.do(DeliveryActivities.release, execution.ref, **config)
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return describe(error)
        return ""

    async def _record(self, closing: Closing) -> None:
        note = self._execution.note
        await note(RecordActivities.close_requirement, closing, str(closing.state))
        await note(RecordActivities.publish_performance, closing.ref, "Publish performance")
        self._execution.display.show(closing.state)
        await self._execution.faults.recorded(options.HANDLERS_PATIENCE)
        await comes_true(workflow.all_handlers_finished, options.HANDLERS_PATIENCE)


def result_of(report: DeliveryReport) -> DeliveryReport:
    """The report, as the result of its workflow.

    Raises: ApplicationError if it has FAILED: lists and filters of Temporal show that so.
    """
    if report.state is RequirementState.FAILED:
        raise ApplicationError(report.reason, report, type=NOT_DELIVERED, non_retryable=True)
    return report


def report_of(error: BaseException | None, converter: PayloadConverter) -> DeliveryReport | None:
    """The report behind the failure of a requirement's workflow; None if it says something else."""
    if not (isinstance(error, ApplicationError) and error.type == NOT_DELIVERED and error.details):
        return None
    report: DeliveryReport = converter.from_payload(
        converter.to_payload(error.details[0]),  # it came without its type
        DeliveryReport,
    )
    return report


async def comes_true(condition: Callable[[], bool], patience: timedelta) -> bool:
    """Wait for the condition, but no longer than that; returns whether it came true."""
    try:
        await workflow.wait_condition(condition, timeout=patience)
    except TimeoutError:
        return False
    return True
