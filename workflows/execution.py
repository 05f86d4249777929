"""What the steps of one requirement's workflow share."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, TypeVar, Unpack

from temporalio import workflow
from temporalio.exceptions import ActivityError
from temporalio.workflow import ActivityConfig

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from pipeline.board import Board
    from pipeline.errors import RefusedInput
    from pipeline.model import (
        Counts,
        DecisionRequest,
        Head,
        Held,
        Hold,
        Mode,
        Opening,
        RequirementOrder,
        RequirementRef,
        Stage,
    )
    from workflows import options
    from workflows.display import Display
    from workflows.failures import describe, is_infrastructure
    from workflows.faults import Faults
    from workflows.gathering import is_cancelled
    from workflows.line import Line, outage
    from workflows.turnstile import Turnstile


class Answer(Protocol):
    """How an attempt ended, or what holds it."""

    @property
    def hold(self) -> Hold | None:
        """Why nothing was started."""


Outcome = TypeVar("Outcome", bound=Answer)
Argument = TypeVar("Argument")
Result = TypeVar("Result")


@dataclass
class Execution:
    """One requirement under way.

    `opening` is None until a host has taken it, `abort` until a human gives it up.
    """

    order: RequirementOrder
    ref: RequirementRef
    board: Board
    turnstile: Turnstile
    display: Display
    opening: Opening | None = None
    abort: DecisionRequest | None = None
    counts: Counts = field(default_factory=Counts)
    is_ending: bool = False
    """Whether it ends whatever comes: what its end needs is waited for, cancelled or not."""
    left: str = ""
    """Why not everything on its host could be cleaned up."""
    line: Line = field(default_factory=Line)
    faults: Faults = field(default_factory=Faults)

    def why_over(self) -> str:
        """Why nothing may start any more; empty while it may."""
        if self.abort:
            return f"the requirement was given up by {self.abort.who}"
        return "the requirement is being cancelled" if is_cancelled() else ""

    def stop_if_over(self) -> None:
        """Stop before something new begins; see `stop_if_cancelled`. Raises: CancelledError."""
        if self.why_over():
            raise asyncio.CancelledError

    def check_under_way(self) -> None:
        """Raises: RefusedInput once the end has begun."""
        why = self.why_over() or ("the requirement is ending" if self.is_ending else "")
        if why:
            raise RefusedInput(f"It is too late for an answer: {why}.")

    def take(self, opening: Opening) -> None:
        """Go on with the host that answered."""
        self.opening = opening
        self.heed(opening.parallel, opening.head)

    def heed(self, parallel: bool, head: Head | None) -> None:
        """Take over the worker's switch and the integration tip from an outcome."""
        self.turnstile.parallel = parallel and not self.order.sequential
        self.board.advance(head)

    async def wait_in_line(self, hold: Hold, turns: int | None = None) -> None:
        """Show who holds the requirement, and wait until it is worth trying again.

        `turns`: as of `Line.wait`.

        Raises: CancelledError, also if the opening that was held has swallowed the cancellation.
        """
        self.stop_if_over()
        await self._wait_in_line(hold, turns)

    async def _wait_in_line(self, hold: Hold, turns: int | None = None) -> None:
        self.display.hold(hold)
        await self.line.wait(hold, self.host, turns)

    async def tried(self, attempt: Awaitable[Outcome], held: Hold | None) -> Outcome:
        """Await an attempt; one that has been held is shown to go on once it is held no more."""
        if held is None:
            return await attempt
        waiting = self._go_on_unless_answered()
        going_on = self.faults.detach(waiting, "show that it goes on", lambda _: None)
        try:
            outcome = await attempt
        finally:
            going_on.cancel()
        if outcome.hold is None:
            self.display.go_on()
        return outcome

    async def _go_on_unless_answered(self) -> None:
        await workflow.sleep(options.HELD_AGAIN, summary="Held again, or under way?")
        self.display.go_on()

    async def do(
        self,
        step: Callable[[Any, Argument], Awaitable[Result]],
        argument: Argument,
        **config: Unpack[ActivityConfig],
    ) -> Result:
        """Have one effect; while a dependency is away the requirement is held and tries again."""

        async def once() -> Result:
            return await workflow.execute_activity_method(step, argument, **config)

        return await self._once_there(once, str(config.get("summary")))

    async def insist(
        self,
        step: Callable[[Any, Argument], Awaitable[Result]],
        argument: Argument,
        **config: Unpack[ActivityConfig],
    ) -> Result:
        """As `do`, for what must be written down before a human can be asked anything.

        What fails for too long is an incident, shown as a hold, and tried again ever more seldom.
        """
        boundary, since = str(config.get("summary")), workflow.now()
        pause, longest = options.FAULT_PAUSES
        is_held = False
        while True:
            try:
                result = await self.do(step, argument, **config)
                break
            except ActivityError as error:
                if self.is_ending or not is_infrastructure(error):
                    raise
                self.faults.report(boundary, error, self.host)
                hold = Hold(boundary, ("infrastructure",), describe(error), 0, since)
            self.stop_if_over()
            is_held = True
            self.display.hold(hold)
            await workflow.sleep(pause, summary=f"{boundary} failed: try again")
            pause = min(2 * pause, longest)
        if is_held:
            self.display.go_on()
        return result

    async def note(
        self, step: Callable[[Any, Argument], Awaitable[None]], argument: Argument, summary: str
    ) -> None:
        """Brief bookkeeping in the same workflow task; held as `do` is."""

        async def once() -> None:
            await workflow.execute_local_activity_method(step, argument, **options.record(summary))

        await self._once_there(once, summary)

    async def _once_there(self, once: Callable[[], Awaitable[Result]], boundary: str) -> Result:
        held: Hold | None = None
        while True:
            try:
                if held and self.is_ending:
                    await self._record(held)  # its end is the last that is written of it
                result = await once()
                break
            except ActivityError as error:
                held = outage(error, boundary, held.since if held else workflow.now())
                if held is None:
                    raise
            if not self.is_ending:
                self.stop_if_over()
            await self._wait_in_line(held)
        if held and not self.is_ending:
            await self._once_there(partial(self._record, held), "record the hold")
            self.display.go_on()
        return result

    async def _record(self, hold: Hold) -> None:
        await workflow.execute_activity_method(
            RecordActivities.record_hold,
            Held(self.ref, hold, workflow.info().workflow_id),
            **options.central("It goes on"),
        )

    def position(self, stage: Stage) -> int:
        """Where the stage stands in the plan."""
        return self.order.pipeline.stages.index(stage)

    @property
    def host(self) -> str:
        """The host that took the requirement."""
        return self.opening.host if self.opening else ""

    @property
    def builders(self) -> tuple[tuple[str, str], ...]:
        """Each build of the plan with the agent of its stage."""
        stages = self.order.pipeline.stages
        return tuple((build, stage.agent) for stage in stages for build in stage.builds)

    @property
    def target_branch(self) -> str:
        """The branch to deliver to; empty where no project is needed."""
        return self.opening.target_branch if self.opening else ""

    @property
    def mode(self) -> Mode:
        """How the next dispatch goes out."""
        return Mode.PARALLEL if self.turnstile.parallel else Mode.SEQUENTIAL
