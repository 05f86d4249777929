"""The requirement's side of its failures: who sees to them, and what came of it."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError

with workflow.unsafe.imports_passed_through():
    from activities.failures import FailureActivities
    from activities.fixes import FixActivities
    from pipeline.failures import shared_out
    from pipeline.model import (
        HUMAN,
        ORCHESTRATOR,
        Ask,
        Escalation,
        FailureCollection,
        Fix,
        GivenUp,
        MergedFix,
        Recovered,
        Recovery,
        RequirementState,
        Settlement,
        Traces,
    )
    from pipeline.plan_rules import DELIVER
    from pipeline.repairs import standing, take
    from pipeline.steering import possible_answers
    from pipeline.triage import Triage, triage
    from workflows import options
    from workflows.execution import Execution
    from workflows.gates import BuildGates
    from workflows.gathering import gather_all, stop_if_cancelled
    from workflows.strategic import StrategicOrchestratorWorkflow
    from workflows.view import question


class Recoveries:
    """Reports failures, has them repaired, and knows what a human is asked."""

    def __init__(self, execution: Execution, gates: BuildGates) -> None:
        """Share the execution with the workflow."""
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._counts = execution.counts
        self._spent_before = timedelta()
        self.asked: tuple[Ask, ...] = ()
        """What a human is asked and has not answered."""
        self._is_blocked = False

    def answered(self, stages: tuple[str, ...]) -> tuple[str, Escalation | None]:
        """An answer sets those stages going: who is waited for still, and what is asked still."""
        left = tuple(ask for ask in self.asked if ask.stage not in (*stages, DELIVER))
        self.asked, self._is_blocked = left, False
        waiting = self._show_pending()
        if not left:
            return waiting, None
        self._counts.escalations += 1
        return waiting, Escalation(
            self._counts.escalations, left, possible_answers(self._board, left)
        )

    def _show_pending(self) -> str:
        """Show, while it runs, who else is waited for; returns that."""
        left = self.asked
        waiting = ", ".join([*self._board.repairs.values(), *([HUMAN] if left else [])])
        answers = possible_answers(self._board, left)
        text = question(self._execution.ref.number, left, answers) if left else ""
        self._execution.pending = (waiting, text)
        return waiting

    def take_up(self, asked: tuple[Ask, ...], spent: timedelta) -> None:
        """Go on from an earlier run of the workflow."""
        self.asked, self._spent_before = asked, spent
        self._counts = self._execution.counts

    def spent(self) -> timedelta:
        """The time that the requirement has taken, without what it waited for humans."""
        return self._spent_before + (workflow.now() - workflow.info().workflow_start_time)

    def triage(self) -> Triage:
        """Who sees to what is red now."""
        return triage(self._board, self._execution.ref.number, self.spent())

    def waited(self, time: timedelta) -> None:
        """Leave that time out of what the requirement has spent."""
        self._spent_before -= time

    async def report(self, plan: Triage) -> None:
        """Report all failures together, and ask a human about those that nobody else sees to."""
        is_known = plan.asks == self.asked and not (plan.fixes or plan.rework)
        if not (is_known and self._is_blocked):
            await self._report(plan)
        waiting = [fix.number for fix in plan.fixes] + [HUMAN] * bool(plan.asks)
        text = question(self._execution.ref.number, plan.asks, plan.answers) if plan.asks else ""
        self._execution.show(RequirementState.BLOCKED, ", ".join(waiting), text)

    async def report_fix(self) -> None:
        """Report why a fix did not succeed: its orchestrator sees to it."""
        await self._report(Triage((), "", "", (), ()))

    async def repair(self, fixes: Sequence[Fix]) -> Recovered | None:
        """Have the failures repaired; None if the requirement was given up meanwhile."""
        self._board.tally.fixes += len(fixes)
        self._board.repairs = {fix.failure.stage: fix.number for fix in fixes}
        recovering = asyncio.create_task(self._orchestrate(tuple(fixes)))
        try:
            await workflow.wait_condition(lambda: recovering.done() or bool(self._execution.abort))
        finally:
            recovering.cancel()
            await gather_all([recovering])
            self._board.repairs = {}
        return None if self._execution.abort else recovering.result()

    async def settle(self, recovered: Recovered, occurrence: int) -> None:
        """Take over what a round of fixes has achieved, and record it."""
        reopened = take(self._board, recovered)
        self._gates.take(recovered.proofs)
        self._execution.heed(recovered.parallel, recovered.head)
        waiting_for = self._waiting_for()
        self._is_blocked = self._is_blocked and bool(waiting_for)
        self._show_pending()
        settlement = Settlement(
            self._execution.ref,
            self._counts.rounds,
            occurrence,
            recovered.green,
            recovered.replaced,
            tuple(reopened.items()),
            waiting_for,
        )
        await workflow.execute_activity_method(
            FixActivities.settle_fixes, settlement, **options.central("Settle the fixes")
        )

    def _waiting_for(self) -> str:
        """Who the requirement waits for now; nobody, if it goes on."""
        if not self._board.failures:
            return ""
        plan = self.triage()
        is_known = plan.asks == self.asked and not (plan.fixes or plan.rework)
        return HUMAN if is_known else ORCHESTRATOR

    async def _report(self, plan: Triage) -> None:
        self._counts.rounds += 1
        self._board.tally.close_round()
        self._is_blocked = True
        escalation = None
        # research that is sent back may answer it: what is red then is asked about then
        if plan.asks and not plan.rework and plan.asks != self.asked:
            self._counts.escalations += 1
            self.asked = plan.asks
            escalation = Escalation(self._counts.escalations, plan.asks, plan.answers)
        collection = FailureCollection(
            self._execution.ref,
            self._counts.rounds,
            shared_out(self._board.open_failures()),
            self._board.blocked_stages(),
            escalation,
            waiting_for=_waiting(goes_on=bool(plan.fixes or plan.rework), asks=plan.asks),
        )
        await workflow.execute_activity_method(
            FailureActivities.aggregate_failures,
            collection,
            **options.central(f"Failures of round {self._counts.rounds}"),
        )

    async def _orchestrate(self, fixes: tuple[Fix, ...]) -> Recovered:
        execution, opening = self._execution, self._execution.opening
        assert opening  # nothing fails before a host has taken it
        recovery = Recovery(
            execution.ref,
            execution.order,
            opening,
            execution.turnstile.parallel,
            self._counts.rounds,
            standing(self._board),
            self._gates.proofs,
            fixes,
        )
        name = f"{execution.ref.number}/round-{self._counts.rounds}"
        try:
            return await workflow.execute_child_workflow(
                StrategicOrchestratorWorkflow.run,
                recovery,
                **options.child(name, "Failures go back to their owners"),
            )
        except ChildWorkflowError as error:
            stop_if_cancelled()  # else somebody ended the orchestrator alone
            reason = f"{name} was ended from outside: {error.cause or error}"
            return _given_up(recovery, await self._traces(), reason)

    async def _traces(self) -> Traces:
        execution = self._execution
        return await workflow.execute_activity_method(
            FixActivities.read_traces,
            execution.ref,
            **options.tools(execution.host, execution.order, "Read what the fixes left"),
        )


def _waiting(*, goes_on: bool, asks: tuple[Ask, ...]) -> str:
    return ", ".join([ORCHESTRATOR] * goes_on + [HUMAN] * bool(asks)) or ORCHESTRATOR


def _given_up(recovery: Recovery, traces: Traces, reason: str) -> Recovered:
    """Which fix was merged is not known: each voids older evidence, as if it were in."""
    return Recovered(
        traces.head if recovery.standing.head else None,
        recovery.parallel,
        merged=tuple(MergedFix(fix.number, fix.stage) for fix in recovery.fixes),
        given_up=tuple(GivenUp(fix.failure.gate, reason) for fix in recovery.fixes),
        attempts=traces.attempts,
    )
