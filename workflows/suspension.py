"""Suspends a requirement's running agents for a P0 or by a pause, and resumes them."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.stages import RunActivities
    from pipeline.model import Hold, RequirementState
    from workflows import options
    from workflows.execution import Execution
    from workflows.view import Shown


class Suspension:
    """Suspends and resumes agents; the stages that wait for them do not notice."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._task: asyncio.Task[None] | None = None
        self._is_asked = False

    @property
    def lasts(self) -> bool:
        """Whether agents are suspended, or are about to be."""
        return self._task is not None and not self._task.done()

    def begin(self) -> None:
        """Check whether the agents must be suspended; one check at a time."""
        self._is_asked = True
        if self._execution.opening and not self.lasts:
            self._task = self._execution.faults.detach(
                self._stand(), "suspend or resume agents", lambda _: None
            )

    async def cancel(self) -> None:
        """Stop checking: the requirement's agents are ended."""
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _stand(self) -> None:
        while self._is_asked:
            self._is_asked = False  # a check under way may miss a request from now on
            held: Shown | None = None
            while hold := await self._look():
                held = await self._wait(hold)
            if held and self._execution.display.shown == held:
                self._execution.display.proceed()

    async def _wait(self, hold: Hold) -> Shown:
        """Wait for the end of P0 or pause; returns what is shown. An open question stays shown."""
        if self._execution.display.shown.state is RequirementState.BLOCKED:
            await self._execution.notifications.wait(hold, self._execution.host)
        else:
            await self._execution.pause(hold)
        return Shown.held(hold)

    async def _look(self) -> Hold | None:
        # Nothing else resumes suspended agents: it is retried whatever has failed.
        return await self._execution.insist(
            RunActivities.apply_preemption,
            self._execution.ref,
            **options.on_host(self._execution.host, "Suspend or resume agents"),
        )
