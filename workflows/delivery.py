"""Deliver: the final builds, then the target branch moves to the verified commit."""

from collections.abc import Awaitable, Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.delivery import DeliveryActivities
    from activities.persistence import shielded
    from pipeline.model import (
        Delivered,
        DeliveryOutcome,
        DeliveryRequest,
        DeliveryState,
        Failure,
        FailureKind,
    )
    from pipeline.plan_rules import DELIVER
    from workflows import options
    from workflows.execution import Execution, Paused
    from workflows.faults import failure_of
    from workflows.gates import BuildGates

TRIES = 5
"""How many foreign moves of the target are followed before a human is asked (design, section 3)."""


class Delivery:
    """The workflow's last step.

    Deliveries to one target take turns: the one with the turn merges the target in, verifies the
    builds on that and moves the target. So each of our deliveries is verified once.
    """

    def __init__(self, execution: Execution, gates: BuildGates) -> None:
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._has_turn = False
        self.delivered: Delivered | None = None
        """What has become of the work; None before, and where no project is needed."""
        self.is_under_way = False
        """Whether the target, or a branch, is about to be moved at this moment."""
        self._refusal = ""

    @property
    def where(self) -> str:
        """Where work lies that could not be delivered, or may have been, in words."""
        if self.is_under_way:
            return (
                "Its delivery had not ended: look whether it has reached"
                f" {self._execution.target_branch or 'its target'}, or a remote."
            )
        return self._refusal

    async def run(self) -> bool:
        """Deliver; if False, the failures are on the board and others may deliver."""
        is_delivered = await self._deliver()
        if self._has_turn and not is_delivered:
            self._has_turn = False
            await self._execution.do(
                DeliveryActivities.leave_line,
                self._execution.ref,
                **options.central("Let others deliver"),
            )
        return is_delivered

    async def _deliver(self) -> bool:
        """Merge in a target that moved, and verify both builds on that merge."""
        moves = 0
        while moves < TRIES:
            outcome = await self._execution.until_passed(self._attempt)
            if outcome is None:
                return False
            self._heed(outcome)
            if outcome.state is not DeliveryState.MOVED:
                self._execution.left, self.delivered = outcome.left, outcome.delivered
                return outcome.state is DeliveryState.DELIVERED
            moves += outcome.is_foreign
        self._give_up()
        return False

    async def _attempt(self, after: Paused | None) -> DeliveryOutcome | Paused | None:
        """One attempt, with the turn in hand; None if a gate is red."""
        self._execution.stop_if_over()
        if self._board.head and not self._has_turn:
            outcome, after = await self._take_turn(after), None
            if outcome.state is not DeliveryState.READY:
                return outcome
            self._heed(outcome)
        if await self._gates.ensure(None, exact=True) or not self._board.is_green():
            return None
        result = await self._execution.resume(self._swap(after), after)
        if isinstance(result, Paused):
            self._has_turn = False
        return result

    async def _take_turn(self, after: Paused | None) -> DeliveryOutcome:
        """Wait in line; with the turn, the head contains the target, unless they conflict."""

        async def ask(after: Paused | None) -> DeliveryOutcome | Paused:
            asking = self._try(DeliveryActivities.take_turn, after, "Take its turn to deliver")
            return await self._execution.resume(asking, after)

        outcome = await self._execution.until_passed(ask, after)
        self._has_turn = True
        return outcome

    async def _swap(self, after: Paused | None) -> DeliveryOutcome | Paused:
        self._execution.counts.deliveries += 1
        # Cancelled half-way, a delivery that moved the target would be lost.
        self.is_under_way = True
        try:
            outcome = await shielded(self._try(DeliveryActivities.deliver, after, self._summary))
        finally:
            self.is_under_way = False
        refused = isinstance(outcome, DeliveryOutcome) and outcome.failure
        self._refusal = refused.error if refused else ""
        return outcome

    @property
    def _summary(self) -> str:
        target = self._execution.target_branch
        return f"Deliver to {target}" if target else "Deliver"

    async def _try(
        self,
        step: Callable[[DeliveryActivities, DeliveryRequest], Awaitable[DeliveryOutcome]],
        after: Paused | None,
        summary: str,
    ) -> DeliveryOutcome | Paused:
        execution, outage = self._execution, after.outage if after else None
        request = DeliveryRequest(
            execution.ref,
            self._board.head,
            execution.target_branch,
            execution.counts.deliveries,
            execution.builders,
            outage,
            execution.order.title,
        )
        effect = workflow.execute_activity_method(
            step, request, **options.tools(execution.host, execution.order, summary)
        )
        return await execution.attempt(effect, DELIVER, outage, self._lost)

    def _lost(self, error: ActivityError) -> DeliveryOutcome:
        failure = failure_of(error, stage=DELIVER, gate=DELIVER, owners=())
        parallel = self._execution.serial_lock.parallel
        return DeliveryOutcome(DeliveryState.REFUSED, None, parallel, failure)

    def _heed(self, outcome: DeliveryOutcome) -> None:
        self._execution.heed(outcome.parallel, outcome.head)
        if outcome.failure:
            self._board.fail(outcome.failure)

    def _give_up(self) -> None:
        target = self._execution.target_branch
        error = f"{target} moved {TRIES} times while this was being verified."
        commit = self._board.commit
        self._board.fail(Failure(DELIVER, FailureKind.DELIVERY, DELIVER, (), error, commit=commit))
