"""The end of a requirement: trees tidied up, rows and events written, a report returned."""

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.delivery import DeliveryActivities
    from activities.performance import PerformanceActivities
    from activities.records import RecordActivities
    from activities.uninterrupted import to_the_end
    from pipeline.failures import shared_out
    from pipeline.model import (
        ORCHESTRATOR,
        Closing,
        DecisionRequest,
        DeliveryReport,
        RequirementState,
    )
    from workflows import options
    from workflows.execution import Execution
    from workflows.failures import describe


class Ending:
    """Ends one requirement, delivered or not."""

    def __init__(self, execution: Execution) -> None:
        """Share the execution with the workflow."""
        self._execution = execution

    async def abort(self, decision: DecisionRequest) -> DeliveryReport:
        """End as a human has decided."""
        reason = f"Aborted by {decision.who}. {decision.note}".strip()
        return await self.give_up(RequirementState.FAILED, reason, decision.who)

    async def give_up(
        self, state: RequirementState, reason: str, who: str = ORCHESTRATOR
    ) -> DeliveryReport:
        """Leave nothing of what is not delivered running or checked out, then close it."""
        left = await self._release() if self._execution.opening else ""
        return await self.close(state, f"{reason} {left}".strip(), who)

    async def close(
        self, state: RequirementState, reason: str, who: str = ORCHESTRATOR
    ) -> DeliveryReport:
        """Record the end and report; from here on a cancellation comes too late."""
        self._execution.is_ending = True
        board = self._execution.board
        closing = Closing(self._execution.ref, state, reason, board.commit, who)
        await to_the_end(self._record(closing))
        number, failures = self._execution.order.number, shared_out(board.open_failures())
        return DeliveryReport(number, state, reason, closing.commit, failures)

    async def _release(self) -> str:
        """Returns what could not be tidied up: a project that is gone must not prevent the end."""
        execution = self._execution
        try:
            await self._execution.do(
                DeliveryActivities.release,
                execution.ref,
                **options.tools(execution.host, execution.order, "Remove clones"),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            return f"Not everything was tidied up: {describe(error)}"
        return ""

    async def _record(self, closing: Closing) -> None:
        await self._execution.do(
            RecordActivities.close_requirement, closing, **options.central(str(closing.state))
        )
        await self._execution.do(
            PerformanceActivities.publish_performance,
            closing.ref,
            **options.central("Publish performance"),
        )
        self._execution.display.show(closing.state)
        await workflow.wait_condition(workflow.all_handlers_finished)
