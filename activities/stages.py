"""The stage: open its row, attach to the agent's run, merge what it did, close its row."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import cache, partial

from temporalio import activity

from activities.persistence import written
from activities.retrying import step
from activities.waiting import waiter
from pipeline.answers import Reading, read_run, unchanged
from pipeline.failures import cut
from pipeline.model import (
    Failure,
    FailureKind,
    Hold,
    MergeResult,
    Mode,
    RunOrder,
    RunResult,
    StageContext,
    StageOutcome,
    StageRequest,
    StageState,
)
from pipeline.ports import HostPorts
from pipeline.prompt import stage_prompt
from pipeline.signatures import signature


class _HeldAgain(Exception):
    """The stage was opened, but must not start any more now that it has a permit."""

    def __init__(self, hold: Hold) -> None:
        super().__init__(hold.reason)
        self.hold = hold


class StageActivities:
    """Runs stages on this host."""

    def __init__(self, ports: HostPorts) -> None:
        """Take the host's ports."""
        self._ports = ports

    @activity.defn
    async def run_stage(self, request: StageRequest) -> StageOutcome:
        """Run one attempt of one stage; repeated, it finds the run and starts nothing twice.

        While something holds the requirement nothing is started: the outcome says what. An agent
        that was started is attached to, whatever is away: its result is recorded when it can be.

        Raises: DependencyUnavailable before the start; StaleAttempt, ProjectMissing,
            ProjectRefused.
        """
        context = await self._open(request)
        if isinstance(context, Hold):
            return self._held(request, context)
        try:
            result = await self._attach(request, context)
        except _HeldAgain as held:
            return self._held(request, held.hold)
        except asyncio.CancelledError:
            await self._cancelled(request)
            raise
        return await self._close(request, result)

    async def _open(self, request: StageRequest) -> StageContext | Hold | None:
        """What the agent must be told, what holds it, or None: it was started before."""
        if await self._ports.runs.is_started(request.run_id):
            if request.resumed:
                await self._ports.store.resume_stage(request)
            return None
        self._ports.readiness.check()
        opened = await self._ports.store.open_stage(request, waiter())
        await self._ports.publish(request.ref.number)
        return opened

    async def _pass_again(self, request: StageRequest) -> None:
        """Look again after a wait for a permit: a P0 that came meanwhile goes first."""
        if hold := await self._ports.store.pass_again(request, waiter()):
            await self._ports.publish(request.ref.number)
            raise _HeldAgain(hold)

    async def _close(self, request: StageRequest, result: RunResult) -> StageOutcome:
        reading = read_run(request, result)
        async with step("take over its work"):
            merge = await self._merge(request, reading)
        if merge and (failure := unchanged(request, reading, merge)):
            reading, merge = replace(reading, state=StageState.FAILED, failure=failure), None
        outcome = self._outcome(request, reading, merge)
        close = self._ports.store.close_stage
        await written(self._ports, partial(close, request, outcome, result, reading.notice, merge))
        await written(self._ports, partial(self._ports.publish, request.ref.number))
        return outcome

    def _held(self, request: StageRequest, hold: Hold) -> StageOutcome:
        name, parallel = request.stage.name, self._ports.parallel
        return StageOutcome(name, request.attempt, StageState.HELD, None, parallel, hold=hold)

    async def _attach(self, request: StageRequest, context: StageContext | None) -> RunResult:
        async with step("make its working copy"):
            worktree = await self._ports.project.prepare(request) if request.head else ""
        order = _order(request, context, worktree)
        announce = cache(partial(_announce, request)) if context else _nothing_new
        async with step("run its agent"):
            result = await self._ports.runs.attach(
                order,
                on_start=partial(self._started, request.run_id, announce),
                after_wait=partial(self._pass_again, request),
            )
        announce()  # one that ended at once was never seen alive
        return result

    async def _started(self, run_id: str, announce: Callable[[], None], at: datetime) -> None:
        announce()
        await written(self._ports, partial(self._ports.store.start_run, run_id, at))

    async def _cancelled(self, request: StageRequest) -> None:
        """End the agent if the stage was cancelled; a worker that stops leaves it alone."""
        details = activity.cancellation_details()
        if details and details.cancel_requested:
            await self._ports.runs.end(request.run_id)
            if request.head:
                await self._ports.project.keep(request)

    async def _merge(self, request: StageRequest, reading: Reading) -> MergeResult | None:
        if not request.head:
            return None
        if reading.state is not StageState.COMPLETED or not reading.notice:
            await self._ports.project.keep(request)
            return None
        merge = await self._ports.project.integrate(request, reading.notice.summary)
        if merge.conflicts or merge.refusal:
            await self._ports.project.keep(request)
        return merge

    def _outcome(
        self, request: StageRequest, reading: Reading, merge: MergeResult | None
    ) -> StageOutcome:
        red = _unmerged(request, merge) if merge else None
        return StageOutcome(
            stage=request.stage.name,
            attempt=request.attempt,
            state=StageState.FAILED if red else reading.state,
            head=merge.head if merge and not red else None,
            parallel=self._ports.parallel,
            summary=reading.notice.summary[:500] if reading.notice else "",
            verdict=reading.verdict,
            flags=reading.notice.flags if reading.notice else (),
            failure=red or reading.failure,
        )


def _announce(request: StageRequest) -> None:
    together = request.in_group and request.mode is Mode.PARALLEL
    activity.logger.info(
        "[%s] Starting %s (%s)%s",
        request.ref.number,
        request.stage.name,
        request.stage.agent,
        " in parallel group" if together else "",
    )


def _nothing_new() -> None:
    """The agent was started before, and that was said."""


def _order(request: StageRequest, context: StageContext | None, worktree: str) -> RunOrder:
    return RunOrder(
        run_id=request.run_id,
        number=request.ref.number,
        stage=request.stage.name,
        agent=request.stage.agent,
        attempt=request.attempt,
        minutes=request.stage.minutes,
        deadline=request.stage.deadline,
        grace=request.stage.grace,
        priority=request.priority.rank,
        remaining_minutes=request.remaining_minutes,
        prompt=stage_prompt(request, context) if context else "",
        worktree=worktree,
        started_at=context.started_at if context else None,
    )


def _unmerged(request: StageRequest, merge: MergeResult) -> Failure | None:
    """Why the work was not merged: it is the agent's to repair, and the branch is untouched.

    What git, or a rule, refuses is red like a conflict, which belongs to the one who merges later.
    """
    if not (merge.conflicts or merge.refusal):
        return None
    error = merge.refusal or "Conflict in " + ", ".join(merge.conflicts)
    return Failure(
        stage=request.stage.name,
        kind=FailureKind.FAILED if merge.refusal else FailureKind.CONFLICT,
        gate=f"merge {request.stage.name}",
        owners=(request.stage.agent,),
        error=cut(error),
        commit=merge.commit,
        signature=signature(merge.refusal),
    )
