"""Rounds: one gather over every stage that waits, then the delivery, then the report."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.failures import FailureActivities
    from pipeline.failures import shared_out
    from pipeline.model import FailureCollection, RequirementState
    from workflows import options
    from workflows.delivery import Delivery
    from workflows.execution import Execution
    from workflows.gates import BuildGates
    from workflows.gathering import gather_all, stop_if_cancelled
    from workflows.stages import StageRunner


class Rounds:
    """Runs what can run, as often as answers reopen something."""

    def __init__(self, execution: Execution, gates: BuildGates) -> None:
        """Share the execution and its gates with the workflow."""
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._runner = StageRunner(execution, gates)
        self._delivery = Delivery(execution, gates)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._round = 1

    async def run(self) -> bool:
        """One round; whether it ended with the delivery. A retry may add stages while it runs."""
        stop_if_cancelled()
        self._execution.show(RequirementState.RUNNING)
        self.start_waiting()
        while unfinished := [task for task in self._tasks.values() if not task.done()]:
            await gather_all(unfinished)
        return self._board.is_green() and await self._delivery.run()

    def start_waiting(self) -> None:
        """Give every stage that waits a task, unless the end has begun."""
        if self._execution.why_over():
            return
        for stage in self._board.waiting():
            task = self._tasks.get(stage.name)
            if task is None or task.done():
                self._tasks[stage.name] = asyncio.create_task(self._runner.run(stage))

    async def report(self) -> None:
        """Report all failures of the round together: the requirement is blocked."""
        collection = FailureCollection(
            self._execution.ref,
            self._round,
            shared_out(self._board.open_failures()),
            self._board.blocked_stages(),
        )
        await workflow.execute_activity_method(
            FailureActivities.aggregate_failures,
            collection,
            **options.central(f"Failures of round {self._round}"),
        )
        self._round += 1
        self._execution.show(RequirementState.BLOCKED, "human")

    async def cancel(self) -> None:
        """Cancel whatever runs, what a retry has added included, and wait for its end."""
        for task in self._tasks.values():
            task.cancel()
        await gather_all(self._tasks.values())
        await self._gates.settle()
