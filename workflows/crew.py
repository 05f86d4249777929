"""Every stage that waits gets a task, until nothing is left that could run."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pipeline.model import Stage
    from workflows.execution import Execution
    from workflows.gathering import gather_all
    from workflows.stages import StageRunner


class Crew:
    """Runs stages side by side; answers and repeated verdicts may add more while it works."""

    def __init__(self, execution: Execution, runner: StageRunner) -> None:
        """Share the execution with whoever lets it work."""
        self._execution = execution
        self._runner = runner
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def stages(self) -> tuple[str, ...]:
        """Every stage that it has taken on, in plan order."""
        return tuple(name for name in self._execution.board.cards if name in self._tasks)

    @property
    def is_busy(self) -> bool:
        """Whether some stage is not at its end."""
        return any(not task.done() for task in self._tasks.values())

    async def run(self) -> None:
        """Run everything that can run, until nothing does."""
        self.start_waiting()
        while self.is_busy:
            await gather_all([task for task in self._tasks.values() if not task.done()])

    def start_waiting(self) -> None:
        """Give every stage that waits a task, unless the end has begun.

        In sequential mode a repair under way is the one thing that is done.
        """
        is_repaired = bool(self._execution.board.repairs) and not self._execution.turnstile.parallel
        if self._execution.why_over() or is_repaired:
            return
        for stage in self._execution.board.waiting():
            task = self._tasks.get(stage.name)
            if task is None or task.done():
                self._tasks[stage.name] = asyncio.create_task(self._run(stage))

    async def cancel(self) -> None:
        """Cancel whatever runs, what a retry has added included, and wait for its end."""
        for task in self._tasks.values():
            task.cancel()
        await gather_all(self._tasks.values())

    async def _run(self, stage: Stage) -> None:
        await self._runner.run(stage)
        self.start_waiting()  # its verdict may ask for a specialist who was skipped
