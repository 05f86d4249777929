"""The strategic orchestrator: failures go back to their owners until their gates are green."""

from functools import partial

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.fixes import FixActivities
    from pipeline.board import Board
    from pipeline.model import RELEASE, REPAIRED, Fix, FixOpening, Recovered, Recovery
    from pipeline.repairs import restore
    from pipeline.triage import next_fix
    from workflows import options
    from workflows.execution import Execution, Turnstile
    from workflows.faults import gather_all, words
    from workflows.fixes import FixRunner
    from workflows.gates import BuildGates
    from workflows.regating import Regating
    from workflows.view import Display, FixesView


@workflow.defn
class StrategicOrchestratorWorkflow:
    """One round's failures: every owner repairs what is theirs, at the same time.

    Workflow ID: `<REQ>/round-<n>`, a child of the requirement; its own children are the fixes.
    Waits for: fixes, their merges, and the gates that are made again; while HELD, for `release` or
    `repaired`.
    Ends: with what is green, what is red again, and what needs a human. Cancelled: its fixes first.
    """

    @workflow.init
    def __init__(self, recovery: Recovery) -> None:
        """Stand where the requirement stands; nothing happens before `run`."""
        board = Board(recovery.order.pipeline)
        restore(board, recovery.standing)
        turnstile = Turnstile(parallel=recovery.parallel)
        self._view = FixesView(recovery.ref.number, recovery.round)
        display = Display(self._view, board)
        self._execution = Execution(
            recovery.order, recovery.ref, board, turnstile, display, recovery.opening
        )
        gates = BuildGates(self._execution, f"{recovery.round}.", recovery.proofs)
        self._fixes = FixRunner(self._execution, self._view, recovery.round)
        self._regating = Regating(self._execution, gates)

    @workflow.run
    async def run(self, recovery: Recovery) -> Recovered:
        """Run and merge every fix, then make each red gate again, once."""
        await self._open(recovery, *recovery.fixes)
        detach = self._execution.faults.detach
        await gather_all(
            [
                detach(self._repair(recovery, fix), fix.number, partial(self._give_up, fix))
                for fix in recovery.fixes
            ]
        )
        return await self._regating.run(recovery.fixes, self._fixes.results)

    async def _repair(self, recovery: Recovery, first: Fix) -> None:
        """See one failure through: a fix that does not succeed is followed by one of its own."""
        fix = first
        while failure := await self._fixes.run(first, fix):
            spent = recovery.spent + (workflow.now() - workflow.info().workflow_start_time)
            following = next_fix(fix, failure, recovery.order.pipeline.bounds, spent)
            if isinstance(following, str):
                return self._fixes.give_up(first, fix, following)
            await self._open(recovery, following)
            fix = following

    def _give_up(self, first: Fix, error: Exception) -> None:
        """An error that nobody foresaw ends the repair of that failure: a human is asked."""
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
    def release(self, epoch: int) -> None:
        """The P0 gate may be open again: what is held tries again."""
        self._execution.line.release(epoch)

    @workflow.signal(name=REPAIRED)
    def repaired(self, dependency: str) -> None:
        """A dependency is there again: what it has held tries again."""
        self._execution.line.repaired(dependency)
