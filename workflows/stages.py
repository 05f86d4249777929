"""Stages: each waits for its needs, passes its gates and runs as often as it is allowed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from activities.stages import StageActivities
    from pipeline.graph import remaining_minutes
    from pipeline.model import (
        Failure,
        Head,
        Hold,
        RequirementState,
        Stage,
        StageOutcome,
        StageRequest,
        StageSkip,
        StageState,
    )
    from pipeline.repairs import run_again
    from pipeline.team import Role
    from workflows import options
    from workflows.execution import Execution, Paused
    from workflows.faults import can_resume, failure_of, fault_of, gather_all
    from workflows.gates import BuildGates


class StageRunner:
    """Runs stages side by side; answers and repeated verdicts may add more meanwhile.

    The board shows how each one ended; only cancellation is raised.
    """

    def __init__(self, execution: Execution, gates: BuildGates) -> None:
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._remaining = remaining_minutes(execution.order.pipeline)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._skips: list[StageSkip] = []
        """Not recorded yet."""

    @property
    def stages(self) -> tuple[str, ...]:
        """Every stage that it has run, in plan order."""
        return tuple(name for name in self._board.entries if name in self._tasks)

    async def run(self) -> None:
        """Run everything that can run, until nothing does."""
        self.start_waiting()
        while running := [task for task in self._tasks.values() if not task.done()]:
            await gather_all(running)

    def start_waiting(self) -> None:
        """Give every waiting stage a task, unless the end has begun.

        In sequential mode nothing runs beside a repair.
        """
        execution = self._execution
        is_repaired = bool(self._board.repairs) and not execution.serial_lock.parallel
        if execution.why_over() or is_repaired or execution.opening is None:
            return
        for stage in self._board.waiting():
            task = self._tasks.get(stage.name)
            if task is None or task.done():
                self._tasks[stage.name] = execution.faults.detach(
                    self._run(stage),
                    stage.name,
                    partial(self._fail, stage),
                    lambda: execution.host,
                )

    async def cancel(self) -> None:
        """Cancel every running stage, those that a retry added as well, and wait for its end."""
        for task in self._tasks.values():
            task.cancel()
        await gather_all(self._tasks.values())

    async def _run(self, stage: Stage) -> None:
        """Bring one waiting stage to its end."""
        await self._execution.until_passed(partial(self._try, stage))
        while why := self._board.work.stale_verdicts().get(stage.name):  # merged during the review
            run_again(self._board, stage.name, why)
            await self._execution.until_passed(partial(self._try, stage))
        self.start_waiting()  # its verdict may ask for a specialist who was skipped

    def _fail(self, stage: Stage, error: Exception) -> None:
        """An unforeseen error asks a human; a retry attaches to an agent that was started."""
        entry = self._board.entries[stage.name]
        outcome = StageOutcome(
            stage.name,
            entry.attempt,
            StageState.FAILED,
            None,
            self._execution.serial_lock.parallel,
            failure=fault_of(error, stage=stage.name, gate=f"run {stage.name}"),
            resumes=entry.state is StageState.RUNNING,
        )
        self._board.apply(outcome)

    async def _try(self, stage: Stage, after: Paused | None) -> Paused | None:
        """Run the stage unless it is paused; the next attempt checks needs and gates again."""
        deploys = stage.member.role == Role.DEVOPS
        red: tuple[Failure, ...] | None = None
        while red is None:
            await workflow.wait_condition(lambda: self._board.needs_decided(stage))
            if needs := self._board.red_needs(stage):
                self._board.block(stage, f"Needs {', '.join(needs)}.")
                return None
            if not self._board.is_wanted(stage):
                await self._skip(stage)
                return None
            red = self._still_true(stage, await self._gates.ensure(stage, exact=deploys))
        if red:
            self._board.block(stage, f"Red: {', '.join(failure.gate for failure in red)}.")
            return None
        return await self._attempts(stage, self._board.head if deploys else None, after)

    def _still_true(self, stage: Stage, red: tuple[Failure, ...]) -> tuple[Failure, ...] | None:
        """The red gates, or None if a retry reopened something below the stage meanwhile."""
        is_standing = not self._board.red_needs(stage) and all(map(self._board.is_open, red))
        return red if is_standing else None

    async def _skip(self, stage: Stage) -> None:
        reason = f"No completed stage raised {stage.flag}."
        again = self._board.entries[stage.name].reason
        attempt = self._board.skip(stage, reason)
        self._skips.append(StageSkip(self._execution.ref, stage, attempt, reason, again))
        await asyncio.sleep(0)  # what is skipped at the same moment is recorded together
        if skips := tuple(self._skips):
            self._skips.clear()
            await self._record(skips, stage)

    async def _record(self, skips: tuple[StageSkip, ...], stage: Stage) -> None:
        config = options.central(f"Skip {', '.join(skip.stage.name for skip in skips)}")
        try:
            # No note: that would hold up the workflow task in which the next stage is dispatched.
            await self._execution.do(RecordActivities.record_skips, skips, **config)
        except BaseException:  # a retry skips this stage again, and records the others with it
            self._skips += [skip for skip in skips if skip.stage != stage]
            raise

    async def _attempts(
        self, stage: Stage, verified: Head | None, after: Paused | None
    ) -> Paused | None:
        while True:
            why = self._board.entries[stage.name].reason
            outcome = await self._dispatch(stage, verified, after)
            if isinstance(outcome, Paused):
                self._board.hold(stage, why, resumes=outcome.resumes)
                return outcome
            self._execution.heed(outcome.parallel, outcome.head)
            if not self._board.tries_again(stage, outcome):
                self._board.apply(outcome)
                self._execution.display.refresh()
                return None
            after = None

    async def _dispatch(
        self, stage: Stage, verified: Head | None, after: Paused | None
    ) -> StageOutcome | Paused:
        async with self._execution.serial_lock.turn((self._execution.position(stage), 1, 0)):
            self._execution.stop_if_over()
            request = self._request(stage, verified, after.outage if after else None)
            if after is None:
                self._execution.display.show(RequirementState.RUNNING)
            return await self._execution.resume(self._run_stage(request), after)

    async def _run_stage(self, request: StageRequest) -> StageOutcome | Paused:
        """Run it as soon as its host has a slot."""
        execution, host, order = self._execution, self._execution.host, self._execution.order
        name, lost = request.stage.name, partial(self._lost, request)
        while True:
            run = workflow.execute_activity_method(
                StageActivities.run_stage, request, **options.stage(host, order, request)
            )
            outcome = await execution.attempt(run, name, request.held, lost)
            if isinstance(outcome, Paused) or outcome.state is not StageState.WAITING:
                return outcome
            since = request.waits_since or workflow.now()
            request = replace(request, waits_since=since, held=None)
            waiting = workflow.execute_activity_method(
                StageActivities.wait_for_slot, request, **options.waiting(host, order, request)
            )
            with self._shown_as_queued(request.stage):
                called = await execution.attempt(waiting, name, failed=lost)
            if called is not None:
                return called

    @contextmanager
    def _shown_as_queued(self, stage: Stage) -> Iterator[None]:
        self._board.queued.add(stage.name)
        self._execution.display.refresh()
        try:
            yield
        finally:
            self._board.queued.remove(stage.name)
            self._execution.display.refresh()

    def _request(self, stage: Stage, verified: Head | None, outage: Hold | None) -> StageRequest:
        entry = self._board.entries[stage.name]
        again = entry.reason
        stages = self._execution.order.pipeline.stages
        return StageRequest(
            ref=self._execution.ref,
            priority=self._execution.order.priority,
            stage=stage,
            attempt=self._board.begin(stage, verified),
            head=verified or entry.base,
            remaining_minutes=self._remaining[stage.name],
            mode=self._execution.mode,
            again=again,
            staging_only=self._board.runs_beside_measurement(stage),
            repeated_after=self._board.repeated_after(stage),
            held=outage,
            in_group=sum(each.group == stage.group for each in stages) > 1,
            exact=verified is not None,
            resumed=entry.resumes,
        )

    def _lost(self, request: StageRequest, error: ActivityError) -> StageOutcome:
        name = request.stage.name
        return StageOutcome(
            stage=name,
            attempt=request.attempt,
            state=StageState.FAILED,
            head=None,
            parallel=self._execution.serial_lock.parallel,
            failure=failure_of(
                error, stage=name, gate=f"run {name}", owners=(request.stage.agent,)
            ),
            resumes=can_resume(error),
        )
