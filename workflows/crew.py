"""Every stage that waits gets a task, until nothing is left that could run."""

import asyncio
from functools import partial

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pipeline.model import Stage, StageOutcome, StageState
    from workflows.execution import Execution
    from workflows.faults import fault_of, gather_all
    from workflows.stages import StageRunner


class Crew:
    """Runs stages side by side; answers and repeated verdicts may add more while it works."""

    def __init__(self, execution: Execution, runner: StageRunner) -> None:
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
        is_open = self._execution.opening is not None
        if self._execution.why_over() or is_repaired or not is_open:
            return
        for stage in self._execution.board.waiting():
            task = self._tasks.get(stage.name)
            if task is None or task.done():
                self._tasks[stage.name] = self._execution.faults.detach(
                    self._run(stage), stage.name, partial(self._fail, stage), self._place
                )

    async def cancel(self) -> None:
        """Cancel whatever runs, what a retry has added included, and wait for its end."""
        for task in self._tasks.values():
            task.cancel()
        await gather_all(self._tasks.values())

    async def _run(self, stage: Stage) -> None:
        await self._runner.run(stage)
        self.start_waiting()  # its verdict may ask for a specialist who was skipped

    def _fail(self, stage: Stage, error: Exception) -> None:
        """An error that nobody foresaw asks a human; an agent that was started is found again."""
        card = self._execution.board.cards[stage.name]
        outcome = StageOutcome(
            stage.name,
            card.attempt,
            StageState.FAILED,
            None,
            self._execution.turnstile.parallel,
            failure=fault_of(error, stage=stage.name, gate=f"run {stage.name}"),
            resumes=card.state is StageState.RUNNING,
        )
        self._execution.board.settle(outcome)

    def _place(self) -> str:
        return self._execution.host
