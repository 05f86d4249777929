"""A requirement's running agents stand still for a P0 that pre-empts them, and go on later."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.runs import RunActivities
    from workflows import options
    from workflows.execution import Execution


class Standstill:
    """Suspends and resumes agents; the stages that wait for them notice nothing."""

    def __init__(self, execution: Execution) -> None:
        """Share the execution with the workflow."""
        self._execution = execution
        self._task: asyncio.Task[None] | None = None

    @property
    def lasts(self) -> bool:
        """Whether agents stand still, or are about to."""
        return self._task is not None and not self._task.done()

    def begin(self) -> None:
        """Look whether the agents must stand still; once at a time."""
        if self._execution.opening and not self.lasts:
            self._task = asyncio.create_task(self._stand())

    async def cancel(self) -> None:
        """Stop looking: the requirement's agents are ended."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _stand(self) -> None:
        execution = self._execution
        while hold := await execution.do(
            RunActivities.stand_still,
            execution.ref,
            **options.standing(execution.host, "Stand still, or go on"),
        ):
            await execution.wait_in_line(hold)
