"""What the steps of one requirement's workflow share."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar, Unpack

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError
from temporalio.workflow import ActivityConfig, LocalActivityConfig

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from activities.sasha import SashaActivities
    from pipeline.board import Board
    from pipeline.errors import DependencyUnavailable, RefusedInput, RequirementMoved
    from pipeline.model import (
        BuildOutcome,
        Counts,
        DecisionRequest,
        DeliveryOutcome,
        Head,
        Held,
        Hold,
        Mode,
        Opening,
        OpeningRequest,
        RequirementOrder,
        RequirementRef,
        SashaCall,
        Stage,
        StageOutcome,
    )
    from pipeline.plan_rules import DELIVER
    from workflows import options
    from workflows.faults import Faults, describe, is_infrastructure
    from workflows.view import Display


Argument = TypeVar("Argument")
Result = TypeVar("Result")

_GATED = (Opening, StageOutcome, BuildOutcome, DeliveryOutcome)
"""Answers to what must pass the P0 gate: each may be a hold instead."""


Rank = tuple[int, int, int]
"""Position of a dispatch in the plan: stage, kind (build before run), build. Unique in flight."""


class SerialLock:
    """A serial lock: lets everything through at once, or, while not `parallel`, one at a time.

    In sequential mode the waiting dispatch that is first in the plan enters next. The mode may
    change at any time; a dispatch that is inside stays inside.
    """

    def __init__(self, *, parallel: bool = True) -> None:
        self.parallel = parallel
        self._waiting: list[Rank] = []
        self._inside = 0

    @asynccontextmanager
    async def turn(self, rank: Rank) -> AsyncIterator[None]:
        """Wait for the lock and keep it for the length of the block."""
        self._waiting.append(rank)
        try:
            await workflow.wait_condition(
                lambda: self.parallel or (self._inside == 0 and rank == min(self._waiting))
            )
        finally:
            self._waiting.remove(rank)
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1


class Notifications:
    """What a workflow was notified of: the P0 gate's version, turns, repaired dependencies."""

    def __init__(self) -> None:
        self._gate_version = 0
        self.turns = 0
        """How many notifications said that it may be the requirement's turn to deliver."""
        self._repairs: dict[str, int] = {}

    def release(self, gate_version: int) -> None:
        """Remember a signalled version; it may arrive before the hold that it ends."""
        self._gate_version = max(self._gate_version, gate_version)

    def turn(self) -> None:
        """It may be the requirement's turn to deliver."""
        self.turns += 1

    def repaired(self, dependency: str) -> None:
        """The dependency is back."""
        self._repairs[dependency] = self._repairs.get(dependency, 0) + 1

    async def wait(self, hold: Hold, host: str, turns: int | None = None) -> None:
        """Wait until another attempt is worth it: notified, or after a while if that was lost.

        `turns` is the count before the attempt that was held, where a turn to deliver may end it.
        """
        repairs = self._repairs.get(hold.dependency, 0)
        if hold.dependency:
            await workflow.execute_activity_method(
                SashaActivities.call_sasha,
                SashaCall(host, hold.dependency, workflow.info().workflow_id),
                **options.central(f"Call Sasha: {hold.dependency} is down"),
            )
        now: datetime = workflow.now()
        if hold.until:
            patience = options.until_check(hold.until - now)
        else:
            patience = options.hold_check(now - hold.since, is_outage=bool(hold.dependency))
        try:
            await workflow.wait_condition(
                lambda: self._is_over(hold, repairs, turns),
                timeout=patience,
                timeout_summary=f"{hold.boundary} is held by {', '.join(hold.by)}",
            )
        except TimeoutError:
            return

    def _is_over(self, hold: Hold, repairs: int, turns: int | None) -> bool:
        if hold.dependency:
            return self._repairs.get(hold.dependency, 0) > repairs
        has_turn = turns is not None and self.turns > turns
        return has_turn or self._gate_version > hold.gate_version


@dataclass(frozen=True)
class Paused:
    """An attempt that started nothing: `hold` says why.

    The pause ends after `lasts`, if that is given, else as `Notifications.wait` says; it gets
    `turns`. With `resumes` the next attempt is this very one. What `has_moved` goes on at once, on
    the requirement's new host.
    """

    hold: Hold
    turns: int | None = None
    lasts: timedelta | None = None
    resumes: bool = False
    has_moved: bool = False

    @property
    def outage(self) -> Hold | None:
        """The hold if a dependency caused it: the next attempt that passes records its end."""
        return self.hold if self.hold.dependency else None


@dataclass
class Execution:
    """The state that the steps of one requirement share.

    `opening` is None until a host takes the requirement, `abort` until a human gives it up.
    """

    order: RequirementOrder
    ref: RequirementRef
    board: Board
    serial_lock: SerialLock
    display: Display
    opening: Opening | None = None
    abort: DecisionRequest | None = None
    counts: Counts = field(default_factory=Counts)
    is_ending: bool = False
    """Whether the end has begun: its effects are waited for even if it is cancelled."""
    left: str = ""
    """Why the host could not be cleaned up completely."""
    notifications: Notifications = field(default_factory=Notifications)
    moves: dict[str, str] = field(default_factory=dict)
    """Lost hosts of the requirement, each with the one that continues it."""
    faults: Faults = field(default_factory=Faults)

    def why_over(self) -> str:
        """Why nothing new may start; empty while it may."""
        if self.abort:
            return f"the requirement was given up by {self.abort.who}"
        is_cancelled = workflow.cancellation_reason() is not None
        return "the requirement is being cancelled" if is_cancelled else ""

    def stop_if_over(self) -> None:
        """Stop before something new begins.

        An activity may still return its result after it was asked to stop; the cancellation would
        be lost with it.

        Raises: CancelledError.
        """
        if self.why_over():
            raise asyncio.CancelledError

    def check_under_way(self) -> None:
        """Raises: RefusedInput once the end has begun."""
        why = self.why_over() or ("the requirement is ending" if self.is_ending else "")
        if why:
            raise RefusedInput(f"It is too late for an answer: {why}.")

    def take(self, opening: Opening) -> None:
        """Continue on the host that answered."""
        self.opening = opening
        self.heed(opening.parallel, opening.head)

    def heed(self, parallel: bool, head: Head | None) -> None:
        """Adopt the worker's parallel switch and the integration tip of an outcome."""
        self.serial_lock.parallel = parallel and not self.order.sequential
        self.board.advance(head)

    # --- effects --------------------------------------------------------------------------

    async def attempt(
        self,
        effect: Awaitable[Result],
        boundary: str,
        outage: Hold | None = None,
        failed: Callable[[ActivityError], Result] | None = None,
    ) -> Result | Paused:
        """Try an effect once. Every effect passes here, except a hasty clean-up, which never waits.

        - A dependency is down: Paused. The hold keeps the start of `outage`, the same one before.
        - The P0 gate, a blocker or the line to deliver holds it: Paused.
        - Its host is lost, and another one continues the requirement: Paused, until it is asked.
        - It is refused, or its retries are exhausted: the value that `failed` makes of the error;
          without `failed` the error is raised.
        - It is cancelled: the error is raised (by `failure_of`, where there is a `failed`).
        """
        turns = self.notifications.turns if boundary == DELIVER else None
        try:
            result = await effect
        except ActivityError as error:
            since = outage.since if outage else workflow.now()
            if moved := self._follow(error, boundary, since):
                return moved
            if hold := _hold_of(error, boundary, since):
                return Paused(hold)
            if failed is None:
                raise
            return failed(error)
        if isinstance(result, _GATED) and result.hold:
            self.heed(result.parallel, None)
            resumes = isinstance(result, StageOutcome) and result.resumes
            return Paused(result.hold, turns, resumes=resumes)
        return result

    async def until_passed(
        self,
        attempt: Callable[[Paused | None], Awaitable[Result | Paused]],
        after: Paused | None = None,
        *,
        outlasts_end: bool = False,
    ) -> Result:
        """Repeat the attempt until it is not paused. Each one gets the pause before it.

        The attempt itself takes locks and verifies gates, so a paused requirement keeps nothing.

        Raises: CancelledError before a pause, even if the attempt swallowed the cancellation. With
            `outlasts_end`, effects of the end still wait for a dependency.
        """
        while isinstance(result := await attempt(after), Paused):
            if result.has_moved:
                self.stop_if_over()
                continue
            after = result
            if not (outlasts_end and self.is_ending and after.outage):
                self.stop_if_over()
            self.display.hold(after.hold)
            if after.lasts:
                summary = f"{after.hold.boundary} failed: try again"
                await workflow.sleep(after.lasts, summary=summary)
            else:
                await self.notifications.wait(after.hold, self.host, after.turns)
        return result

    async def resume(
        self, attempt: Awaitable[Result | Paused], after: Paused | None
    ) -> Result | Paused:
        """Await an attempt; if one was paused before it, show that the requirement is resumed."""
        if after is None:
            return await attempt
        resumed = self.faults.detach(
            self._show_resumed_unless_answered(after.hold), "show that it continues", lambda _: None
        )
        try:
            result = await attempt
        finally:
            resumed.cancel()
        if not isinstance(result, Paused):
            self.display.proceed(after.hold.boundary)
        return result

    async def _show_resumed_unless_answered(self, hold: Hold) -> None:
        await workflow.sleep(options.HELD_AGAIN, summary="Held again, or under way?")
        self.display.proceed(hold.boundary)

    async def pause(self, hold: Hold) -> None:
        """Show who holds the requirement, and wait until it is worth trying again.

        Raises: CancelledError, also if the opening that was held has swallowed the cancellation.
        """
        self.stop_if_over()
        self.display.hold(hold)
        await self.notifications.wait(hold, self.host)

    async def do(
        self,
        step: Callable[[Any, Argument], Awaitable[Result]],
        argument: Argument,
        **config: Unpack[ActivityConfig],
    ) -> Result:
        """Run one effect; wait through holds and record the outage that delayed it.

        Raises: ActivityError if it is refused, or its retries are exhausted.
        """

        def effect(outage: Hold | None) -> Awaitable[Result]:
            # A P0 may hold next what an outage has held: both are recorded in one transaction.
            asked = argument
            if isinstance(argument, OpeningRequest):
                asked = replace(argument, held=outage)
            return workflow.execute_activity_method(step, asked, **self._on_its_host(config))

        return await self._do(effect, str(config.get("summary")))

    async def insist(
        self,
        step: Callable[[Any, Argument], Awaitable[Result]],
        argument: Argument,
        **config: Unpack[ActivityConfig],
    ) -> Result:
        """As `do`, for what must be recorded before a human can be asked.

        Exhausted retries become an incident, shown as a hold; the pause before each repeat doubles.
        """

        def effect(outage: Hold | None) -> Awaitable[Result]:
            return workflow.execute_activity_method(step, argument, **self._on_its_host(config))

        return await self._do(effect, str(config.get("summary")), insists=True)

    async def note(
        self, step: Callable[[Any, Argument], Awaitable[None]], argument: Argument, summary: str
    ) -> None:
        """As `do`, for brief bookkeeping in the same workflow task."""
        await self._do(lambda _: _note(step, argument, options.record(summary)), summary)

    async def _do(
        self,
        effect: Callable[[Hold | None], Awaitable[Result]],
        boundary: str,
        *,
        insists: bool = False,
    ) -> Result:
        paused: Paused | None = None
        began, (pause, longest) = workflow.now(), options.FAULT_PAUSES

        async def after_outage(outage: Hold | None) -> Result:
            if outage and self.is_ending:
                await self._record(outage)  # its end is the last that is written of it
            return await effect(outage)

        async def attempt(after: Paused | None) -> Result | Paused:
            nonlocal paused, pause
            paused = after
            outage = after.outage if after else None
            attempt = self.attempt(after_outage(outage), boundary, outage)
            is_gated = after and not (after.outage or after.lasts)
            try:
                return await self.resume(attempt, after if is_gated else None)
            except ActivityError as error:
                if self.is_ending or not (insists and is_infrastructure(error)):
                    raise
                self.faults.report(boundary, error, self.host)
                hold = Hold(boundary, ("infrastructure",), describe(error), 0, began)
                lasts, pause = pause, min(2 * pause, longest)
                return Paused(hold, lasts=lasts)

        result = await self.until_passed(attempt, outlasts_end=True)
        if paused and not self.is_ending:
            if outage := paused.outage:
                await self._do(lambda _: self._record(outage), "record the hold")
            self.display.proceed()
        return result

    async def _record(self, hold: Hold) -> None:
        await workflow.execute_activity_method(
            RecordActivities.record_hold,
            Held(self.ref, hold, workflow.info().workflow_id),
            **options.central("Record that it continues"),
        )

    # --- its host -------------------------------------------------------------------------

    def _follow(self, error: ActivityError, boundary: str, since: datetime) -> Paused | None:
        """Continue on the host that the requirement has moved to, if that is what the error says.

        Its workflow, and each below it, hears of a move when it asks the lost host for something.
        """
        match error.cause:
            case (
                ApplicationError(
                    type=RequirementMoved.__name__, details=[str(lost), str(host)]
                ) as moved
            ):
                self.moves[lost] = host
                if self.opening:
                    self.opening = replace(self.opening, host=self.now_of(self.opening.host))
                return Paused(Hold(boundary, (host,), moved.message, 0, since), has_moved=True)
        return None

    def now_of(self, host: str) -> str:
        """The host that continues what was asked of that one: no requirement returns to one."""
        while host in self.moves:
            host = self.moves[host]
        return host

    def _on_its_host(self, config: ActivityConfig) -> ActivityConfig:
        """The same call, of the host that has the requirement by now."""
        queues, queue = options.queues(), config.get("task_queue")
        for lost in self.moves:
            for of in (queues.tools, queues.host, queues.agents, queues.waiting):
                if queue == of(lost):
                    config["task_queue"] = of(self.now_of(lost))
        return config

    # --- what it knows --------------------------------------------------------------------

    def position(self, stage: Stage) -> int:
        """Where the stage stands in the plan."""
        return self.order.pipeline.stages.index(stage)

    @property
    def host(self) -> str:
        """The host that took the requirement."""
        return self.opening.host if self.opening else ""

    @property
    def builders(self) -> tuple[tuple[str, str], ...]:
        """Each build of the plan with who answers for it."""
        return self.order.pipeline.owners

    @property
    def target_branch(self) -> str:
        """The branch to deliver to; empty where no project is needed."""
        return self.opening.target_branch if self.opening else ""

    @property
    def mode(self) -> Mode:
        """How the next dispatch goes out."""
        return Mode.PARALLEL if self.serial_lock.parallel else Mode.SEQUENTIAL


async def _note(
    step: Callable[[Any, Argument], Awaitable[None]],
    argument: Argument,
    config: LocalActivityConfig,
) -> None:
    """Run a local activity. Its failure is an ActivityError, as for any other activity.

    The SDK raises the bare cause instead.
    """
    try:
        await workflow.execute_local_activity_method(step, argument, **config)
    except ApplicationError as error:
        raise ActivityError(
            "Local activity failed",
            scheduled_event_id=0,
            started_event_id=0,
            identity="",
            activity_type=step.__name__,
            activity_id="",
            retry_state=None,
        ) from error


def _hold_of(error: ActivityError, boundary: str, since: datetime) -> Hold | None:
    """The hold that a missing dependency causes; None for every other error."""
    match error.cause:
        case (
            ApplicationError(type=DependencyUnavailable.__name__, details=[str(dependency)]) as away
        ):
            return Hold(boundary, (dependency,), away.message, 0, since, dependency)
    return None
