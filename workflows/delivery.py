"""Deliver: the final builds, then the target branch moves to the verified commit."""

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.delivery import DeliveryActivities
    from activities.uninterrupted import to_the_end
    from pipeline.model import (
        DeliveryOutcome,
        DeliveryRequest,
        DeliveryState,
        Failure,
        FailureKind,
        Hold,
    )
    from pipeline.plan_rules import DELIVER
    from workflows import options
    from workflows.execution import Execution
    from workflows.failures import failure_of
    from workflows.gates import BuildGates
    from workflows.line import outage

TRIES = 5
"""How often a target that moves is followed before a human is asked (design, section 3)."""


class Delivery:
    """The workflow's last step."""

    def __init__(self, execution: Execution, gates: BuildGates) -> None:
        """Share the execution and its gates with the workflow."""
        self._execution = execution
        self._board = execution.board
        self._gates = gates

    async def run(self) -> bool:
        """Deliver; False leaves the failures on the board.

        A target that moved is merged in, and both builds are verified on that merge.
        """
        for _ in range(TRIES):
            outcome = await self._attempt()
            if outcome is None:
                return False
            self._execution.heed(outcome.parallel, outcome.head)
            if outcome.failure:
                self._board.fail(outcome.failure)
            if outcome.state is not DeliveryState.MOVED:
                return outcome.state is DeliveryState.DELIVERED
        self._give_up()
        return False

    async def _attempt(self) -> DeliveryOutcome | None:
        """One try, once nothing holds; None if it cannot be delivered."""
        held: Hold | None = None
        while True:
            self._execution.stop_if_over()
            if await self._gates.ensure(None, exact=True) or not self._board.is_green():
                return None
            outcome = await self._execution.tried(self._attempt_once(held), held)
            if outcome.hold is None:
                return outcome
            held = outcome.hold
            await self._execution.wait_in_line(held)

    async def _attempt_once(self, held: Hold | None) -> DeliveryOutcome:
        self._execution.counts.deliveries += 1
        target = self._execution.target_branch
        request = DeliveryRequest(
            self._execution.ref,
            self._board.head,
            target,
            self._execution.counts.deliveries,
            self._execution.builders,
            held if held and held.dependency else None,
        )
        try:
            # Cancelled half-way, a target that has moved would not be known as delivered. The end
            # of a cancelled requirement waits for this, with a bound.
            return await to_the_end(self._deliver(request))
        except ActivityError as error:
            parallel = self._execution.turnstile.parallel
            if hold := outage(error, DELIVER, held.since if held else workflow.now()):
                return DeliveryOutcome(DeliveryState.HELD, None, parallel, hold=hold)
            failure = failure_of(error, stage=DELIVER, gate=DELIVER, owners=())
            return DeliveryOutcome(DeliveryState.REFUSED, None, parallel, failure)

    async def _deliver(self, request: DeliveryRequest) -> DeliveryOutcome:
        return await workflow.execute_activity_method(
            DeliveryActivities.deliver,
            request,
            **options.tools(self._execution.host, self._execution.order, "Deliver"),
        )

    def _give_up(self) -> None:
        target = self._execution.target_branch
        error = f"{target} moved {TRIES} times while this was being verified."
        commit = self._board.commit
        self._board.fail(Failure(DELIVER, FailureKind.DELIVERY, DELIVER, (), error, commit=commit))
