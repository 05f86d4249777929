"""A requirement's running agents stand still for a P0 that pre-empts them, and go on later."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.stages import RunActivities
    from pipeline.model import Hold, RequirementState
    from workflows import options
    from workflows.execution import Execution
    from workflows.view import Shown


class Standstill:
    """Suspends and resumes agents; the stages that wait for them notice nothing."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._task: asyncio.Task[None] | None = None
        self._is_asked = False

    @property
    def lasts(self) -> bool:
        """Whether agents stand still, or are about to."""
        return self._task is not None and not self._task.done()

    def begin(self) -> None:
        """Look whether the agents must stand still; once at a time."""
        self._is_asked = True
        if self._execution.opening and not self.lasts:
            self._task = self._execution.faults.detach(
                self._stand(), "let agents stand still, or go on", lambda _: None
            )

    async def cancel(self) -> None:
        """Stop looking: the requirement's agents are ended."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _stand(self) -> None:
        while self._is_asked:
            self._is_asked = False  # a look that is under way may not see whoever asks from now on
            held: Shown | None = None
            while hold := await self._look():
                held = await self._wait(hold)
            if held and self._execution.display.shown == held:
                self._execution.display.go_on()

    async def _wait(self, hold: Hold) -> Shown:
        """Wait for the P0's end; returns what is shown meanwhile: a question stays to be seen."""
        if self._execution.display.shown.state is RequirementState.BLOCKED:
            await self._execution.line.wait(hold, self._execution.host)
        else:
            await self._execution.wait_in_line(hold)
        return Shown.held(hold)

    async def _look(self) -> Hold | None:
        # Agents that stand still go on by this alone: it is tried again whatever has failed.
        return await self._execution.insist(
            RunActivities.stand_still,
            self._execution.ref,
            **options.on_host(self._execution.host, "Stand still, or go on"),
        )
