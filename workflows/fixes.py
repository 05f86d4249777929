"""One fix: its workflow, and the merge of what it did."""

from dataclasses import dataclass, field, replace

from temporalio import workflow
from temporalio.exceptions import ActivityError, ChildWorkflowError

with workflow.unsafe.imports_passed_through():
    from activities.fixes import FixActivities
    from pipeline.model import (
        DeliveryReport,
        Failure,
        FailureKind,
        Fix,
        FixBase,
        FixMerge,
        FixMerged,
        GivenUp,
        Group,
        Head,
        MergedFix,
        Pipeline,
        RequirementOrder,
        RequirementState,
    )
    from pipeline.repairs import add_fix
    from workflows import options
    from workflows.execution import Execution
    from workflows.faults import failure_of
    from workflows.view import FixesView

REQUIREMENT = "RequirementWorkflow"
"""By its name: that module starts this one's workflow, so neither can import the other."""

_TITLE_LENGTH = 200


@dataclass
class FixResults:
    """How fixes ended, by the number of the first fix of each failure."""

    merged: list[MergedFix] = field(default_factory=list)
    reports: dict[str, tuple[Fix, DeliveryReport]] = field(default_factory=dict)
    given_up: dict[str, GivenUp] = field(default_factory=dict)
    judged: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """What was merged when each fix began."""


class FixRunner:
    """Runs fixes as children and merges them; how each ended stands in `results`."""

    def __init__(self, execution: Execution, view: FixesView, round_: int) -> None:
        self._execution = execution
        self._view = view
        self._round = round_
        self.results = FixResults()
        self._started = 0

    async def run(self, first: Fix, fix: Fix) -> Failure | None:
        """Run one fix and merge it; why that did not succeed, or None."""
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
        """Open no further fix for that failure."""
        self._view.tell(fix, f"given up: {reason}")
        self.results.given_up[first.number] = GivenUp(first.failure.gate, reason)

    def order(self, fix: Fix) -> RequirementOrder:
        """The fix's input: one stage, on the host and from the integration tip of today."""
        root = self._execution.order
        error = fix.failure.error.partition("\n")[0]
        title = f"{fix.failure.gate} of {self._execution.ref.number}: {error}"
        return replace(
            root,
            number=fix.number,
            title=title[:_TITLE_LENGTH],
            pipeline=Pipeline("fix", (Group(fix.task.group),), (fix.task,), root.pipeline.bounds),
            sequential=not self._execution.turnstile.parallel,
            fix=FixBase(self._execution.host, self._execution.board.head),
        )

    async def _child(self, fix: Fix) -> DeliveryReport | Failure:
        self._started += 1
        stage = self._execution.order.pipeline.stage(fix.stage)
        rank = (self._execution.position(stage), 0, self._started)
        async with self._execution.turnstile.turn(rank):
            self._execution.stop_if_over()
            self._view.tell(fix, "running")
            order = self.order(fix)
            self.results.judged[fix.number] = self._execution.board.work.done()
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
                self._execution.stop_if_over()  # else somebody ended this one fix
                return _failed(fix, FailureKind.ENDED, str(error.cause or error))
            return report

    async def _merge(self, fix: Fix, commit: str) -> Failure | None:
        head: Head | None = None
        if commit:  # none where no project is needed
            merged = await self._merge_commit(fix, commit)
            self._execution.heed(merged.parallel, merged.head)
            if merged.failure:
                return merged.failure
            head = merged.head
        done = MergedFix(fix.number, fix.stage, head)
        self.results.merged.append(done)
        add_fix(self._execution.board, done)
        return None

    async def _merge_commit(self, fix: Fix, commit: str) -> FixMerged:
        """Merge what is paid for: while infrastructure prevents it, it is tried again."""
        execution = self._execution
        try:
            return await execution.insist(
                FixActivities.merge_fix,
                FixMerge(execution.ref, self._round, fix, commit),
                **options.tools(execution.host, execution.order, f"Merge {fix.number}"),
            )
        except ActivityError as error:
            gate = f"merge {fix.number}"
            failure = failure_of(error, stage=fix.task.name, gate=gate, owners=(fix.owner,))
            return FixMerged(None, execution.turnstile.parallel, failure)


def _failed(fix: Fix, kind: FailureKind, reason: str) -> Failure:
    return Failure(fix.task.name, kind, f"run {fix.task.name}", (fix.owner,), reason)
