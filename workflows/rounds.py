"""Rounds: one gather over every stage that waits, then the delivery."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pipeline.model import RequirementState
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

    async def run(self) -> bool:
        """One round; whether it ended with the delivery."""
        stop_if_cancelled()
        await self.run_stages()
        return self._board.is_green() and await self._delivery.run()

    async def run_stages(self) -> None:
        """Everything that can run, until nothing does. A retry may add stages meanwhile."""
        self.start_waiting()
        while unfinished := [task for task in self._tasks.values() if not task.done()]:
            self._execution.show(RequirementState.RUNNING)
            await gather_all(unfinished)

    def start_waiting(self) -> None:
        """Give every stage that waits a task, unless the end has begun."""
        if self._execution.why_over():
            return
        for stage in self._board.waiting():
            task = self._tasks.get(stage.name)
            if task is None or task.done():
                self._tasks[stage.name] = asyncio.create_task(self._runner.run(stage))

    async def cancel(self) -> None:
        """Cancel whatever runs, what a retry has added included, and wait for its end."""
        for task in self._tasks.values():
            task.cancel()
        await gather_all(self._tasks.values())
        await self._gates.settle()
