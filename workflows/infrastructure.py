"""A component that could not be repaired: a P0 without stages, which everything waits for."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.persistence import shielded
    from activities.sasha import SashaActivities
    from pipeline.errors import NoWorker, RefusedInput
    from pipeline.model import (
        ORCHESTRATOR,
        Answer,
        Closing,
        DecisionRequest,
        DeliveryReport,
        InfrastructureOpening,
        InfrastructureOrder,
        Reopened,
        RequirementRef,
        RequirementState,
        RetryRequest,
        SashaCall,
    )
    from pipeline.plan_rules import DELIVER
    from pipeline.steering import check_note
    from pipeline.web_details import escaped
    from workflows import options
    from workflows.continuing import is_long
    from workflows.ending import result_of
    from workflows.remediation import is_over

_FIRST_INTERVAL = timedelta(minutes=1)
_LONGEST_INTERVAL = timedelta(minutes=15)
"""A human works on it; a look costs little, and everything waits for it."""

_NOW = timedelta()


@workflow.defn
class InfrastructureWorkflow:
    """Waits until a component works again.

    Workflow ID: `REQ-INFRA-<component>-<n>`, used once. It asks a human, looks again by itself, and
    ends DELIVERED when a look no longer finds the trouble; FAILED if a human gives it up, or if its
    number turns out to be taken when the database is back. Continues as new between two looks when
    its history is long.
    """

    @workflow.init
    def __init__(self, order: InfrastructureOrder) -> None:
        self._order = order
        self._ref = RequirementRef(order.number, workflow.info().first_execution_run_id)
        self._abort: DecisionRequest | None = None
        self._is_asked_to_look = False

    @workflow.run
    async def run(self, order: InfrastructureOrder) -> DeliveryReport:
        """Wait for the repair, and call Sasha at the end, whatever that is."""
        workflow.set_current_details(
            f"**{order.alert.component}** needs a human: {escaped(order.alert.detail)}"
        )
        try:
            report = await self._wait_for_repair(order)
        except (asyncio.CancelledError, ActivityError) as error:
            await shielded(self._tell_sasha(given_up=is_cancelled_exception(error)))
            raise
        await shielded(self._tell_sasha(given_up=self._abort is not None))
        return result_of(report)

    async def _wait_for_repair(self, order: InfrastructureOrder) -> DeliveryReport:
        """Open the rows, look until it is over, and close them."""
        try:
            if not order.is_open:
                await workflow.execute_activity_method(
                    SashaActivities.open_infrastructure,
                    InfrastructureOpening(self._ref, order),
                    **options.lasting("Ask a human"),
                )
            await self._look_until_over()
        except (asyncio.CancelledError, ActivityError) as error:
            if not is_cancelled_exception(error):
                raise
            await shielded(self._close(RequirementState.CANCELLED, "Cancelled."))
            raise
        if self._abort:
            reason = f"Given up by {self._abort.who}. {self._abort.note}".strip()
            return await self._close(RequirementState.FAILED, reason, self._abort.who)
        return await self._close(RequirementState.DELIVERED, "It works again.")

    @workflow.update
    async def retry(self, request: RetryRequest) -> Reopened:
        """Look again now."""
        self._is_asked_to_look = True
        return Reopened((DELIVER,))

    @retry.validator
    def validate_retry(self, request: RetryRequest) -> None:
        """Refuse a stage that it does not have."""
        check_note(request.note)
        if request.stage != DELIVER:
            raise RefusedInput(f"{self._order.number} has no stages: retry {DELIVER}.")

    @workflow.update
    async def decide(self, request: DecisionRequest) -> Reopened:
        """Continue without the repair."""
        self._abort = request
        return Reopened(())

    @decide.validator
    def validate_decision(self, request: DecisionRequest) -> None:
        """Refuse any answer that calls it repaired: only a look decides that."""
        check_note(request.note)
        if request.answer is not Answer.ABORT:
            raise RefusedInput(
                f"Only `abort` or `retry {DELIVER}` answers {self._order.number}: a look decides."
            )

    async def _look_until_over(self) -> None:
        interval = _LONGEST_INTERVAL if self._order.is_open else _FIRST_INTERVAL
        while not self._abort:
            if is_long():
                workflow.continue_as_new(replace(self._order, is_open=True))
            with suppress(NoWorker):
                if await is_over(self._order.place, self._order.alert, _NOW):
                    return
            await self._pause(interval)
            interval = min(2 * interval, _LONGEST_INTERVAL)

    async def _pause(self, interval: timedelta) -> None:
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: bool(self._abort) or self._is_asked_to_look,
                timeout=interval,
                timeout_summary="Look again",
            )
        self._is_asked_to_look = False

    async def _close(
        self, state: RequirementState, reason: str, who: str = ORCHESTRATOR
    ) -> DeliveryReport:
        closing = Closing(self._ref, state, reason, "", who)
        await workflow.execute_activity_method(
            SashaActivities.close_infrastructure, closing, **options.lasting(str(state))
        )
        await workflow.wait_condition(workflow.all_handlers_finished)
        return DeliveryReport(self._order.number, state, reason, "")

    async def _tell_sasha(self, *, given_up: bool) -> None:
        await workflow.execute_activity_method(
            SashaActivities.call_sasha,
            SashaCall(self._order.place, ended=self._order.number, given_up=given_up),
            **options.central("Tell Sasha"),
        )
