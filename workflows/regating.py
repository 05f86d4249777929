"""Every red gate is made again, once, on what a round of fixes has left."""

from collections.abc import Sequence
from dataclasses import replace

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.delivery import DeliveryActivities
    from pipeline.failures import shared_out
    from pipeline.graph import ancestors
    from pipeline.model import (
        DeliveryOutcome,
        DeliveryRequest,
        DeliveryState,
        Failure,
        FailureKind,
        Fix,
        Recovered,
        StageOutcome,
        StageState,
    )
    from pipeline.plan_rules import DELIVER
    from pipeline.repairs import Key, outcome_of, run_again, stand_in
    from workflows import options
    from workflows.crew import Crew
    from workflows.execution import Execution
    from workflows.faults import failure_of
    from workflows.fixes import FixResults
    from workflows.gates import BuildGates
    from workflows.stages import StageRunner


_REPAIRED = "What it found is repaired."


class Regating:
    """Makes gates again whose fixes are all in; what a build or a tester says decides.

    A run that failed, or conflicted, is replaced by its fix: the fix's valid notice is its gate.
    """

    def __init__(self, execution: Execution, gates: BuildGates) -> None:
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._crew = Crew(execution, StageRunner(execution, gates))
        self._replaced: list[tuple[str, StageOutcome]] = []

    async def run(self, fixes: Sequence[Fix], results: FixResults) -> Recovered:
        """Make the gates again whose fixes are in; what the round has achieved."""
        repaired = _repaired(fixes, results)
        failures = list(repaired.values())
        self._replace_runs([fix for fix in fixes if _key(fix.failure) in repaired], results)
        await self._verify_builds(failures)
        await self._run_testers(failures)
        await self._merge_target(failures)
        return self._recovered(repaired, results)

    def _replace_runs(self, fixes: Sequence[Fix], results: FixResults) -> None:
        for first in fixes:
            if first.failure.kind.is_of_run and first.failure.stage != DELIVER:
                fix, report = results.reports[first.number]
                judged = results.judged[fix.number]
                outcome = stand_in(self._board, first.failure, report, judged)
                self._board.settle(outcome)
                self._replaced.append((fix.number, outcome))

    async def _verify_builds(self, failures: Sequence[Failure]) -> None:
        await self._gates.verify(
            [
                (failure.gate.removeprefix("build "), self._board.pipeline.stage(failure.stage))
                for failure in failures
                if failure.kind is FailureKind.BUILD
            ]
        )

    async def _run_testers(self, failures: Sequence[Failure]) -> None:
        """Run those again who said FAIL, and before them those whose verdicts are void by now."""
        red = [failure.stage for failure in failures if failure.kind is FailureKind.VERDICT]
        before = {name for each in red for name in ancestors(self._board.pipeline, each)}
        void = self._board.work.void_verdicts()
        for name in dict.fromkeys((*void, *red)):
            if name in red or name in before:
                run_again(self._board, name, void.get(name, _REPAIRED))
        await self._crew.run()

    async def _merge_target(self, failures: Sequence[Failure]) -> None:
        if not any(failure.stage == DELIVER for failure in failures):
            return
        outcome = await self._merge_target_once()
        self._execution.heed(outcome.parallel, outcome.head)
        if outcome.failure:
            self._board.fail(outcome.failure)

    async def _merge_target_once(self) -> DeliveryOutcome:
        execution = self._execution
        request = DeliveryRequest(
            execution.ref, self._board.head, execution.target_branch, 0, execution.builders
        )
        try:
            return await execution.do(
                DeliveryActivities.merge_target,
                request,
                **options.tools(execution.host, execution.order, "Merge the target"),
            )
        except ActivityError as error:
            failure = failure_of(error, stage=DELIVER, gate=DELIVER, owners=())
            parallel = execution.turnstile.parallel
            return DeliveryOutcome(DeliveryState.REFUSED, None, parallel, failure)

    def _recovered(self, repaired: dict[Key, Failure], results: FixResults) -> Recovered:
        tested = self._crew.stages
        replaced = [pair for pair in self._replaced if pair[1].stage not in tested]
        outcomes = [outcome_of(self._board, name) for name in tested]
        outcomes += [outcome for _, outcome in replaced if outcome.failure]
        told = {_key(outcome.failure) for outcome in outcomes if outcome.failure}
        red = {_key(f): f for f in shared_out(self._board.open_failures())}
        return Recovered(
            head=self._board.head,
            parallel=self._execution.turnstile.parallel,
            merged=tuple(results.merged),
            outcomes=tuple(_cut(outcome, red) for outcome in outcomes),
            replaced=tuple(pair for pair in replaced if not pair[1].failure),
            cleared=tuple(repaired),
            green=tuple(key for key in repaired if self._is_green(repaired[key])),
            failures=tuple(failure for key, failure in red.items() if key not in told),
            given_up=tuple(results.given_up.values()),
            proofs=self._gates.proofs,
        )

    def _is_green(self, failure: Failure) -> bool:
        if failure.kind is FailureKind.VERDICT:
            return self._board.cards[failure.stage].state is StageState.COMPLETED
        return _key(failure) not in self._board.failures


def _repaired(fixes: Sequence[Fix], results: FixResults) -> dict[Key, Failure]:
    """The failures of which every fix is in."""
    left = {_key(fix.failure) for fix in fixes if fix.number not in results.reports}
    return {_key(fix.failure): fix.failure for fix in fixes if _key(fix.failure) not in left}


def _cut(outcome: StageOutcome, red: dict[Key, Failure]) -> StageOutcome:
    """The outcome with its failure's text as it may travel."""
    failure = outcome.failure
    return replace(outcome, failure=red[_key(failure)]) if failure else outcome


def _key(failure: Failure) -> Key:
    return failure.stage, failure.gate
