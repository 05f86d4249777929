"""The requirement's side of a repair: start the orchestrator, apply its results."""

import asyncio
from collections.abc import Sequence
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError

with workflow.unsafe.imports_passed_through():
    from activities.fixes import FixActivities
    from pipeline.model import (
        Fix,
        GivenUp,
        Head,
        MergedFix,
        Recovered,
        Recovery,
        RoundResults,
    )
    from pipeline.repairs import apply_results, snapshot
    from workflows import options
    from workflows.execution import Execution
    from workflows.faults import gather_all, words
    from workflows.gates import BuildGates
    from workflows.humans import Questions
    from workflows.strategic import StrategicOrchestratorWorkflow


class Recoveries:
    """Has failures repaired and applies the results."""

    def __init__(self, execution: Execution, gates: BuildGates, questions: Questions) -> None:
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._questions = questions

    async def repair(self, fixes: Sequence[Fix]) -> Recovered:
        """Have the failures repaired."""
        self._board.counters.fixes += len(fixes)
        self._board.repairs = {fix.failure.stage: fix.number for fix in fixes}
        recovering = self._execution.faults.detach(
            self._orchestrate(tuple(fixes)), "repair", partial(self._lost, tuple(fixes))
        )
        try:
            await workflow.wait_condition(recovering.done)
        except asyncio.CancelledError:  # or given up: the fixes end first
            recovering.cancel()
            await gather_all([recovering])
            raise
        self._board.repairs = {}
        return recovering.result()

    async def record(self, recovered: Recovered, occurrence: int) -> None:
        """Apply the results of a round of fixes, and record them."""
        reopened = apply_results(self._board, recovered)
        self._gates.take(recovered.proofs)
        self._execution.heed(recovered.parallel, recovered.head)
        results = RoundResults(
            self._execution.ref,
            self._execution.counts.rounds,
            occurrence,
            recovered.green,
            recovered.replaced,
            tuple(reopened.items()),
            self._questions.repaired(),
        )
        await self._execution.insist(
            FixActivities.apply_fixes, results, **options.central("Apply the results of the fixes")
        )

    async def _orchestrate(self, fixes: tuple[Fix, ...]) -> Recovered:
        execution, opening = self._execution, self._execution.opening
        assert opening  # nothing fails before a host has taken it
        recovery = Recovery(
            execution.ref,
            execution.order,
            opening,
            execution.serial_lock.parallel,
            self._execution.counts.rounds,
            snapshot(self._board),
            self._gates.proofs,
            fixes,
            self._questions.spent(),
        )
        name = f"{execution.ref.number}/round-{self._execution.counts.rounds}"
        try:
            return await workflow.execute_child_workflow(
                StrategicOrchestratorWorkflow.run,
                recovery,
                **options.child(name, "Failures go back to their owners"),
            )
        except ChildWorkflowError as error:
            execution.stop_if_over()  # else somebody ended the orchestrator alone
            reason = f"{name} was ended from outside: {error.cause or error}"
            traces = await execution.do(
                FixActivities.read_traces,
                execution.ref,
                **options.tools(execution.host, execution.order, "Read what the fixes left"),
            )
            head = traces.head if recovery.snapshot.head else None
            return _given_up(fixes, reason, head, recovery.parallel, traces.attempts)

    def _lost(self, fixes: tuple[Fix, ...], error: Exception) -> Recovered:
        """An unforeseen error, or one while traces were read, asks a human."""
        reason = f"The repair failed: {words(error)}"
        return _given_up(fixes, reason, self._board.head, self._execution.serial_lock.parallel)


def _given_up(
    fixes: tuple[Fix, ...],
    reason: str,
    head: Head | None,
    parallel: bool,
    attempts: tuple[tuple[str, int], ...] = (),
) -> Recovered:
    """Nobody knows which fix was merged: each makes older evidence stale, as if it were."""
    return Recovered(
        head,
        parallel,
        merged=tuple(MergedFix(fix.number, fix.stage) for fix in fixes),
        given_up=tuple(GivenUp(fix.failure.gate, reason) for fix in fixes),
        attempts=attempts,
    )
