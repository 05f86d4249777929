"""What Sasha could not repair: a P0 is opened for it, and asks a human."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from activities.sasha import SashaActivities
    from pipeline.infrastructure import infrastructure_number, stands_for
    from pipeline.model import InfrastructureOrder, SashaState
    from workflows import options
    from workflows.faults import Faults
    from workflows.infrastructure import InfrastructureWorkflow
    from workflows.remediation import Key, Remediation


class Escalations:
    """The open P0s for components, each for one alert."""

    def __init__(self, state: SashaState, tell: Callable[[str], None], faults: Faults) -> None:
        """Restore the open ones; `tell` takes the number of one that has ended."""
        self._numbers: dict[Key, str] = dict(state.escalated)
        self._last = dict(state.numbers)
        self._tell = tell
        self._faults = faults
        self._ends: dict[str, asyncio.Task[None]] = {}
        """Awaited by the run that began them; later runs rely on being called."""

    @property
    def open(self) -> tuple[tuple[Key, str], ...]:
        """Alerts, and the P0 of each."""
        return tuple(self._numbers.items())

    @property
    def last(self) -> tuple[tuple[str, int], ...]:
        """The latest n of each component's requirements."""
        return tuple(self._last.items())

    def knows(self, key: Key) -> bool:
        """Whether a P0 is open for that alert."""
        return key in self._numbers

    def concern(self, place: str, component: str) -> bool:
        """Whether a P0 is open for that component of that place."""
        return any(
            key[0] == place and stands_for(number, component)
            for key, number in self._numbers.items()
        )

    def forget(self, number: str) -> tuple[Key, ...]:
        """Drop an ended P0; returns the alerts it stood for."""
        over = tuple(key for key, each in self._numbers.items() if each == number)
        for key in over:
            del self._numbers[key]
        return over

    async def begin(self, remediation: Remediation) -> str:
        """Open a P0 for what was not remediated; its own workflow outlives Sasha's."""
        while True:
            number = await self._next_number(remediation.alert.component)
            order = InfrastructureOrder(
                number, remediation.place, remediation.alert, tuple(remediation.actions)
            )
            try:
                handle = await workflow.start_child_workflow(
                    InfrastructureWorkflow.run, order, **options.abandoned(number, "Needs a human")
                )
            except WorkflowAlreadyStartedError:
                continue
            self._numbers[remediation.key] = number
            self._ends[number] = self._faults.detach(
                self._hear_of_end(number, handle), f"hear of the end of {number}", lambda _: None
            )
            return number

    async def _next_number(self, component: str) -> str:
        """A number that no row has; while the database is down, one that was not given before.

        Temporal cannot tell, because closed workflows expire.
        """
        last = await workflow.execute_activity_method(
            SashaActivities.last_infrastructure,
            component,
            **options.central(f"Number the P0 for {component}"),
        )
        nth = 1 + max(last, self._last.get(component, 0))
        self._last[component] = nth
        return infrastructure_number(component, nth)

    async def _hear_of_end(self, number: str, handle: Awaitable[object]) -> None:
        """A terminated workflow could not call her."""
        try:
            with suppress(ChildWorkflowError):
                await handle
        finally:
            del self._ends[number]
            self._tell(number)
