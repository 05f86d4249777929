"""The strategic orchestrator: failures go back to their owners until their gates are green."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError

with workflow.unsafe.imports_passed_through():
    from activities.delivery import DeliveryActivities
    from activities.fixes import FixActivities
    from pipeline.board import Board
    from pipeline.failures import headline, truncated
    from pipeline.graph import ancestors
    from pipeline.model import (
        RELEASE,
        REPAIRED,
        DeliveryReport,
        DeliveryRequest,
        Failure,
        FailureKind,
        Fix,
        FixBase,
        FixMerge,
        FixOpening,
        GivenUp,
        Group,
        Head,
        MergedFix,
        Pipeline,
        Recovered,
        Recovery,
        RequirementOrder,
        RequirementState,
        StageOutcome,
        StageState,
    )
    from pipeline.plan_rules import DELIVER
    from pipeline.repairs import Key, add_fix, outcome_of, restore, run_again, substitute
    from pipeline.triage import next_fix
    from workflows import options
    from workflows.ending import report_of
    from workflows.execution import Execution, SerialLock
    from workflows.faults import failure_of, gather_all, words
    from workflows.gates import BuildGates
    from workflows.stages import StageRunner
    from workflows.view import Display, FixesView

REQUIREMENT = "RequirementWorkflow"
"""By name: that module imports this one to start its workflow."""

_TITLE_LENGTH = 200


@dataclass
class FixResults:
    """How fixes ended, by the number of the first fix of each failure."""

    merged: list[MergedFix] = field(default_factory=list)
    reports: dict[str, tuple[Fix, DeliveryReport]] = field(default_factory=dict)
    given_up: dict[str, GivenUp] = field(default_factory=dict)
    reviewed: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What was merged when each fix began."""


class FixRunner:
    """Runs fixes as child workflows and merges them; `results` says how each ended."""

    def __init__(self, execution: Execution, view: FixesView, round_: int) -> None:
        self._execution = execution
        self._view = view
        self._round = round_
        self.results = FixResults()
        self._started = 0

    async def run(self, first: Fix, fix: Fix) -> Failure | None:
        """Run one fix and merge it; returns why that failed, or None."""
        report = await self._child(fix)
        self._execution.stop_if_over()
        if isinstance(report, Failure):
            return report
        if report.state is not RequirementState.DELIVERED:
            self._view.tell(fix, "failed")
            refused = _failed(fix, FailureKind.REFUSED, report.reason)
            return next(iter(report.failures), refused)
        if conflict := await self._merge(fix, report.commit):
            self._view.tell(fix, "in conflict")
            return conflict
        self._view.tell(fix, "merged")
        self.results.reports[first.number] = (fix, report)
        return None

    def give_up(self, first: Fix, fix: Fix, reason: str) -> None:
        """Give the failure to a human: no further fix is opened."""
        self._view.tell(fix, f"given up: {reason}")
        self.results.given_up[first.number] = GivenUp(first.failure.gate, reason)

    def order(self, fix: Fix) -> RequirementOrder:
        """The fix's input: one stage, on this host, from the current integration tip."""
        root = self._execution.order
        error = headline(fix.failure.error)
        title = f"{fix.failure.gate} of {self._execution.ref.number}: {error}"
        return replace(
            root,
            number=fix.number,
            title=title[:_TITLE_LENGTH],
            pipeline=Pipeline("fix", (Group(fix.task.group),), (fix.task,), root.pipeline.bounds),
            sequential=not self._execution.serial_lock.parallel,
            fix=FixBase(self._execution.host, self._execution.board.head),
        )

    async def _child(self, fix: Fix) -> DeliveryReport | Failure:
        self._started += 1
        stage = self._execution.order.pipeline.stage(fix.stage)
        rank = (self._execution.position(stage), 0, self._started)
        async with self._execution.serial_lock.turn(rank):
            self._execution.stop_if_over()
            self._view.tell(fix, "running")
            order = self.order(fix)
            self.results.reviewed[fix.number] = self._execution.board.work.done()
            try:
                report: DeliveryReport = await workflow.execute_child_workflow(
                    REQUIREMENT,
                    order,
                    result_type=DeliveryReport,
                    **options.child(
                        fix.number,
                        f"{fix.owner}: {fix.failure.gate}",
                        options.search_attributes(order),
                    ),
                )
            except ChildWorkflowError as error:
                if failed := report_of(error.cause, workflow.payload_converter()):
                    return failed
                self._execution.stop_if_over()  # else somebody ended this one fix
                return _failed(fix, FailureKind.ENDED, str(error.cause or error))
            return report

    async def _merge(self, fix: Fix, commit: str) -> Failure | None:
        head: Head | None = None
        if commit:  # none where no project is needed
            execution = self._execution
            try:  # it is paid for, so the merge is retried until infrastructure allows it
                merged = await execution.insist(
                    FixActivities.merge_fix,
                    FixMerge(execution.ref, self._round, fix, commit),
                    **options.tools(execution.host, execution.order, f"Merge {fix.number}"),
                )
            except ActivityError as error:
                gate = f"merge {fix.number}"
                return failure_of(error, stage=fix.task.name, gate=gate, owners=(fix.owner,))
            execution.heed(merged.parallel, merged.head)
            if merged.failure:
                return merged.failure
            head = merged.head
        done = MergedFix(fix.number, fix.stage, head)
        self.results.merged.append(done)
        add_fix(self._execution.board, done)
        return None


def _failed(fix: Fix, kind: FailureKind, reason: str) -> Failure:
    return Failure(fix.task.name, kind, f"run {fix.task.name}", (fix.owner,), reason)


_REPAIRED = "What it found is repaired."


class Reverification:
    """Verifies each gate again whose fixes are all merged; a build or a tester decides.

    A fix replaces a run that failed or conflicted: the fix's valid notice is its gate.
    """

    def __init__(self, execution: Execution, gates: BuildGates) -> None:
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._stages = StageRunner(execution, gates)
        self._replaced: list[tuple[str, StageOutcome]] = []

    async def run(self, fixes: Sequence[Fix], results: FixResults) -> Recovered:
        """Verify the gates again whose fixes are merged; returns what the round has achieved."""
        unmerged = {_key(fix.failure) for fix in fixes if fix.number not in results.reports}
        found = {_key(fix.failure): fix.failure for fix in fixes}
        repaired = {key: failure for key, failure in found.items() if key not in unmerged}
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
                reviewed = results.reviewed[fix.number]
                outcome = substitute(self._board, first.failure, report, reviewed)
                self._board.apply(outcome)
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
        """Run testers that said FAIL again, and before them those whose verdicts are stale."""
        red = [failure.stage for failure in failures if failure.kind is FailureKind.VERDICT]
        before = {name for each in red for name in ancestors(self._board.pipeline, each)}
        stale = self._board.work.stale_verdicts()
        for name in dict.fromkeys((*stale, *red)):
            if name in red or name in before:
                run_again(self._board, name, stale.get(name, _REPAIRED))
        await self._stages.run()

    async def _merge_target(self, failures: Sequence[Failure]) -> None:
        if not any(failure.stage == DELIVER for failure in failures):
            return
        execution = self._execution
        request = DeliveryRequest(
            execution.ref, self._board.head, execution.target_branch, 0, execution.builders
        )
        try:
            outcome = await execution.do(
                DeliveryActivities.merge_target,
                request,
                **options.tools(execution.host, execution.order, "Merge the target"),
            )
        except ActivityError as error:
            self._board.fail(failure_of(error, stage=DELIVER, gate=DELIVER, owners=()))
            return
        execution.heed(outcome.parallel, outcome.head)
        if outcome.failure:
            self._board.fail(outcome.failure)

    def _recovered(self, repaired: dict[Key, Failure], results: FixResults) -> Recovered:
        tested = self._stages.stages
        replaced = [pair for pair in self._replaced if pair[1].stage not in tested]
        outcomes = [outcome_of(self._board, name) for name in tested]
        outcomes += [outcome for _, outcome in replaced if outcome.failure]
        told = {_key(outcome.failure) for outcome in outcomes if outcome.failure}
        red = {_key(f): f for f in truncated(self._board.open_failures())}
        return Recovered(
            head=self._board.head,
            parallel=self._execution.serial_lock.parallel,
            merged=tuple(results.merged),
            outcomes=tuple(
                replace(outcome, failure=outcome.failure and red[_key(outcome.failure)])
                for outcome in outcomes
            ),
            replaced=tuple(pair for pair in replaced if not pair[1].failure),
            cleared=tuple(repaired),
            green=tuple(key for key in repaired if self._is_green(repaired[key])),
            failures=tuple(failure for key, failure in red.items() if key not in told),
            given_up=tuple(results.given_up.values()),
            proofs=self._gates.proofs,
        )

    def _is_green(self, failure: Failure) -> bool:
        if failure.kind is FailureKind.VERDICT:
            return self._board.entries[failure.stage].state is StageState.COMPLETED
        return _key(failure) not in self._board.failures


def _key(failure: Failure) -> Key:
    return failure.stage, failure.gate


@workflow.defn
class StrategicOrchestratorWorkflow:
    """One round's failures: every owner repairs what is theirs, at the same time.

    Workflow ID: `<REQ>/round-<n>`, a child of the requirement; its own children are the fixes.
    Waits for: fixes, their merges, and gates that are verified again; while HELD, for `release` or
    `repaired`.
    Ends: with what is green, what is red again, and what needs a human. Cancelled: its fixes first.
    """

    @workflow.init
    def __init__(self, recovery: Recovery) -> None:
        """Restore the requirement's state; nothing happens before `run`."""
        board = Board(recovery.order.pipeline)
        restore(board, recovery.snapshot)
        serial_lock = SerialLock(parallel=recovery.parallel)
        self._view = FixesView(recovery.ref.number, recovery.round)
        display = Display(self._view, board)
        self._execution = Execution(
            recovery.order, recovery.ref, board, serial_lock, display, recovery.opening
        )
        gates = BuildGates(self._execution, f"{recovery.round}.", recovery.proofs)
        self._fixes = FixRunner(self._execution, self._view, recovery.round)
        self._reverification = Reverification(self._execution, gates)

    @workflow.run
    async def run(self, recovery: Recovery) -> Recovered:
        """Run and merge every fix, then verify each red gate again, once."""
        await self._open(recovery, *recovery.fixes)
        detach = self._execution.faults.detach
        await gather_all(
            [
                detach(self._repair(recovery, fix), fix.number, partial(self._give_up, fix))
                for fix in recovery.fixes
            ]
        )
        return await self._reverification.run(recovery.fixes, self._fixes.results)

    async def _repair(self, recovery: Recovery, first: Fix) -> None:
        """Repair one failure: a fix that fails is followed by a fix of its own."""
        fix = first
        while failure := await self._fixes.run(first, fix):
            spent = recovery.spent + (workflow.now() - workflow.info().workflow_start_time)
            following = next_fix(fix, failure, recovery.order.pipeline.bounds, spent)
            if isinstance(following, str):
                return self._fixes.give_up(first, fix, following)
            await self._open(recovery, following)
            fix = following

    def _give_up(self, first: Fix, error: Exception) -> None:
        """An unforeseen error ends the repair of that failure: a human is asked."""
        self._fixes.give_up(first, first, f"{first.number}: {words(error)}")

    async def _open(self, recovery: Recovery, *fixes: Fix) -> None:
        orders = tuple(self._fixes.order(fix) for fix in fixes)
        for fix in fixes:
            self._view.tell(fix, "opened")
        await self._execution.insist(
            FixActivities.open_fixes,
            FixOpening(recovery.ref, recovery.round, fixes, orders),
            **options.central(f"Open {', '.join(fix.number for fix in fixes)}"),
        )

    @workflow.signal(name=RELEASE)
    def release(self, gate_version: int) -> None:
        """The P0 gate may be open: retry what is held."""
        self._execution.notifications.release(gate_version)

    @workflow.signal(name=REPAIRED)
    def repaired(self, dependency: str) -> None:
        """A dependency is back: retry what it held."""
        self._execution.notifications.repaired(dependency)
