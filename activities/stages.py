"""The stage: a slot, the P0 gate, a clone, the agent; then merge what it did and close its row."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from temporalio import activity

from activities.persistence import notify_others, publish_soon, subscriber, until_persisted
from activities.retrying import step, tell_with_each_beat
from pipeline.accounts import Limit, limit_of
from pipeline.answers import Reading, read_run, unchanged
from pipeline.failures import cut, signature
from pipeline.lost_hosts import lost_run
from pipeline.model import (
    Cost,
    Extension,
    Failure,
    FailureKind,
    Hold,
    MergeResult,
    Mode,
    Preparation,
    RequirementRef,
    RunEnd,
    RunOrder,
    RunResult,
    RunStart,
    StageContext,
    StageOutcome,
    StageRequest,
    StageState,
)
from pipeline.notice import Notice
from pipeline.ports import HostPorts
from pipeline.preparation import failed, is_started, told_of
from pipeline.prompt import Prompt

T = TypeVar("T")


class StageActivities:
    """Runs stages on this host."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def run_stage(self, request: StageRequest) -> StageOutcome:
        """Run one attempt of one stage; repeated, it finds the run and starts nothing twice.

        Without a free slot, or while something holds the requirement, nothing is opened: the
        outcome says so. An agent that was started is attached to, and nothing else is asked: its
        result is recorded once everything is back.

        Raises: DependencyUnavailable before the start; StaleAttempt, ProjectMissing,
            ProjectRefused.
        """
        on_start = partial(self._started, request)
        try:
            while True:
                if not_started := await self._start(request):
                    return not_started
                async with step("run its agent"):
                    result = await self._ports.runs.attach(request.slot, on_start)
                # What was verified for a deployment may not be the tip any more.
                if request.exact or not result.is_resumable:
                    break
                await self._let_resume(request, result)
        except asyncio.CancelledError:
            await self._cancelled(request)
            raise
        return await self._close(replace(request, head=result.head or request.head), result)

    @activity.defn
    async def wait_for_slot(self, request: StageRequest) -> None:
        """Wait in this host's waiting room until the stage is called; then it is to be run.

        A stage that found no slot comes back. Nothing is opened here.
        """
        tell_with_each_beat(partial(self._ports.runs.queue_place, request.run_id))
        await self._ports.runs.wait_for_slot(request.slot)

    async def _start(self, request: StageRequest) -> StageOutcome | None:
        """Start the run, or find it started; returns the outcome if it was not.

        It has no slot, is held, or its clone cannot be prepared. One that was cut off passes the
        gates again before its session goes on.
        """
        runs = self._ports.runs
        while True:
            async with runs.slot(request.slot) as has_slot:
                part = await runs.next_part(request.run_id)
                if part is None:
                    if request.resumed:
                        await self._ports.store.resume_stage(request)
                    return None
                opened = await self._pass_gates(request, part, has_slot=has_slot)
                if isinstance(opened, StageContext) and opened.lost_on:
                    return await self._lost(request, opened)
                async with self._telling(request, part):
                    if not isinstance(opened, StageContext):
                        if not opened:
                            await runs.queue(request.slot)
                        return self._not_started(request, opened, resumes=part > 0)
                    # A session that goes on has its clone, and knows its task.
                    made = (
                        _order(request, opened, "", Prompt("", ""))
                        if part
                        else await self._prepared(request, opened)
                    )
                if isinstance(made, RunOrder) and await runs.start(made):
                    _announce(request, part)
                    return None
            if isinstance(made, tuple):
                return await self._unprepared(request, *made)
            # A P0 suspended it just now: it passes the gate again with its next slot.
            await runs.until_resumed(request.run_id)

    async def _pass_gates(
        self, request: StageRequest, part: int, *, has_slot: bool
    ) -> StageContext | Hold | None:
        """What the agent must be told, or what holds it; None if it waits for a slot.

        A session that is to go on waits here while a dependency is down: its attempt has begun, and
        would count as a new one, which had seen what was merged meanwhile.
        """
        store, agents, agent = self._ports.store, self._ports.agents(), request.stage.agent
        pass_gate = store.open_stage if has_slot else store.queue_stage
        account, budget = agents.account(agent), agents.run_budget(agent)
        passing = partial(pass_gate, request, subscriber(), account, part, budget)
        if part:
            return await until_persisted(self._ports, passing)
        self._ports.readiness.check()
        return await passing()

    @asynccontextmanager
    async def _telling(self, request: StageRequest, part: int) -> AsyncIterator[None]:
        """Publish that it passed, or why not, during the block: nothing starts before that is out.

        As at the gates, a session that is to go on waits while a dependency is down.
        """
        telling = partial(self._ports.publish, request.ref.number)
        told = asyncio.ensure_future(until_persisted(self._ports, telling) if part else telling())
        try:
            yield
            await told
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)

    async def _let_resume(self, request: StageRequest, result: RunResult) -> None:
        """Let the session of a run that was cut off go on, and tell of a limit that has cut it."""
        limit = limit_of(result.report, self._ports.agents().after_limit(request.stage.agent))
        if limit and result.end is RunEnd.EXITED:
            met = partial(self._ports.store.limit_account, request, limit)
            are_held = await until_persisted(self._ports, met)
            await until_persisted(self._ports, partial(self._ports.publish, request.ref.number))
            if are_held:
                await until_persisted(self._ports, partial(notify_others, self._ports))
        await self._ports.runs.let_resume(request.run_id, result.parts)

    def _not_started(
        self, request: StageRequest, hold: Hold | None, *, resumes: bool
    ) -> StageOutcome:
        """The outcome of a stage that is held, or waits for a slot."""
        name, parallel = request.stage.name, self._ports.parallel
        state = StageState.HELD if hold else StageState.WAITING
        return StageOutcome(
            name, request.attempt, state, None, parallel, hold=hold, resumes=resumes
        )

    async def _prepared(
        self, request: StageRequest, context: StageContext
    ) -> RunOrder | tuple[Preparation, Failure] | None:
        """The order of the run, with a clone at the one commit that everything names from now.

        Where that cannot be prepared, and the agent is not the one to mend it: why. None if it is
        suspended meanwhile.
        """
        if not request.head:
            return await self._ordered(request, context, "")
        project, runs = self._ports.project, self._ports.runs
        async with step("make its working copy"):
            if context.started_at:  # its records are gone, and its agent may be at work there
                head = await project.head(request.ref.number, context.base_commit)
            elif request.exact:
                head = request.head
            else:
                head = await project.head(request.ref.number)
            request = replace(request, head=head)
            worktree = await project.prepare(request)
        # What an agent has written there would pass for what is prepared.
        builds = () if context.started_at else self._ports.agents().prepared(request.stage)
        preparing = self._prepare(request, builds, worktree)
        is_done, preparation = await _unless(runs.until_suspended(request.run_id), preparing)
        if not is_done:
            return None
        if preparation is None or preparation.is_green:
            return await self._ordered(request, context, worktree)
        number, manifests = request.ref.number, preparation.manifests
        owner = await project.last_author(number, head.commit, manifests)
        if is_started(request, preparation, owner, repairs=bool(context.repairs)):
            return await self._ordered(request, told_of(context, preparation), worktree)
        return preparation, failed(request, preparation, owner)

    async def _ordered(
        self, request: StageRequest, context: StageContext, worktree: str
    ) -> RunOrder:
        async with step("prepare what it is told"):
            prompt = await self._ports.prompts.prepare(request, context, worktree)
        return _order(request, context, worktree, prompt)

    async def _prepare(
        self, request: StageRequest, builds: tuple[str, ...], worktree: str
    ) -> Preparation | None:
        """Prepare the clone for the builds that its agent works on; None if nothing has to run."""
        store = self._ports.store
        if not builds:
            return None
        async with step(f"prepare its clone for {' and '.join(builds)}"):
            await store.start_preparing(request, builds)
            await self._ports.publish(request.ref.number)
            preparation = await self._ports.builds.prepare(request, builds, worktree)
            await store.end_preparing(request, preparation)
            publish_soon(self._ports, request.ref.number)
        return preparation

    async def _lost(self, request: StageRequest, context: StageContext) -> StageOutcome:
        """Close a run that was started on a host that is lost: nothing of it can be had here.

        One that was closed there gives its recorded answer, so that it is not paid twice.
        """
        if recorded := context.lost_result:
            if context.base_commit:
                head = await self._ports.project.head(request.ref.number, context.base_commit)
                request = replace(request, head=head)
            return await self._close(request, recorded)
        result = RunResult(
            end=RunEnd.HOST_LOST,
            exit_code=None,
            output="",
            error_output="",
            started_at=context.started_at,
            ended_at=datetime.now(UTC),
            starts=1,
            log_reference="",
            reason=lost_run(context.lost_on),
        )
        outcome = self._outcome(request, read_run(request, result), None)
        await self._record(request, outcome, result)
        return outcome

    async def _unprepared(
        self, request: StageRequest, preparation: Preparation, failure: Failure
    ) -> StageOutcome:
        """Close the row of a run whose clone could not be prepared; its agent never started."""
        prepared = preparation.result
        result = RunResult(
            end=RunEnd.NOT_STARTED,
            exit_code=None,
            output="",
            error_output="",
            started_at=None,
            ended_at=prepared.ended_at,
            starts=0,
            log_reference=prepared.log_reference,
            reason=failure.error,
        )
        outcome = StageOutcome(
            stage=request.stage.name,
            attempt=request.attempt,
            state=StageState.FAILED,
            head=None,
            parallel=self._ports.parallel,
            failure=failure,
            base=request.head,
        )
        await self._ports.project.discard(request)
        await self._record(request, outcome, result)
        return outcome

    async def _close(self, request: StageRequest, result: RunResult) -> StageOutcome:
        reading = read_run(request, result)
        async with step("take over its work"):
            merge = await self._merge(request, reading)
        if merge and (failure := unchanged(request, reading, merge, result.report)):
            reading, merge = replace(reading, state=StageState.FAILED, failure=failure), None
        outcome = self._outcome(request, reading, merge)
        limit = limit_of(result.report, self._ports.agents().after_limit(request.stage.agent))
        limit = limit if reading.failure and reading.failure.kind is FailureKind.LIMITED else None
        cost = await self._record(request, outcome, result, reading.notice, merge, limit)
        return replace(outcome, cost=cost)

    async def _record(
        self,
        request: StageRequest,
        outcome: StageOutcome,
        result: RunResult,
        notice: Notice | None = None,
        merge: MergeResult | None = None,
        limit: Limit | None = None,
    ) -> Cost:
        """Close the run's row, and tell those whom that lets continue; what the run cost."""
        close = partial(
            self._ports.store.close_stage, request, outcome, result, notice, merge, limit
        )
        closed = await until_persisted(self._ports, close)
        publish_soon(self._ports, request.ref.number)
        if closed.may_notify:
            await until_persisted(self._ports, partial(notify_others, self._ports))
        return closed.cost

    async def _started(self, request: StageRequest, start: RunStart) -> None:
        start_run, commit = self._ports.store.start_run, start.head.commit if start.head else ""
        told = partial(start_run, request, start.at, commit, start.session)
        await until_persisted(self._ports, told)

    async def _cancelled(self, request: StageRequest) -> None:
        """End the agent if the stage was cancelled; a worker that stops leaves it alone."""
        details = activity.cancellation_details()
        if not (details and details.cancel_requested):
            return
        if head := (await self._ports.runs.end(request.run_id)).head:
            await self._ports.project.keep(replace(request, head=head))

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
            base=request.head,
        )


class RunActivities:
    """Suspends, resumes and extends this host's runs."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def apply_preemption(self, ref: RequirementRef) -> Hold | None:
        """Suspend the requirement's agents for a P0 that pre-empts them or by a pause, else resume.

        Returns the hold that names these.
        """
        hold = await self._ports.store.apply_preemption(ref, subscriber())
        if hold:
            await self._ports.runs.suspend(ref.key)
        else:
            await self._ports.runs.resume(ref.key)
        await self._ports.publish(ref.number)
        return hold

    @activity.defn
    async def extend_run(self, extension: Extension) -> None:
        """Rewrite the run's deadline and record who moved it and why."""
        await self._ports.runs.extend(extension.run_id, extension.deadline)
        await self._ports.store.extend(extension)


async def _unless(stop: Awaitable[None], work: Awaitable[T]) -> tuple[bool, T | None]:
    """The result of the work; it is ended, and False comes first, if `stop` comes before it."""
    stopping, working = asyncio.ensure_future(stop), asyncio.ensure_future(work)
    try:
        await asyncio.wait({stopping, working}, return_when=asyncio.FIRST_COMPLETED)
        return (True, working.result()) if working.done() else (False, None)
    finally:
        for task in (stopping, working):
            task.cancel()
        await asyncio.gather(stopping, working, return_exceptions=True)


def _announce(request: StageRequest, part: int) -> None:
    together = request.in_group and request.mode is Mode.PARALLEL
    activity.logger.info(
        "[%s] %s %s (%s)%s",
        request.ref.number,
        "Resuming the session of" if part else "Starting",
        request.stage.name,
        request.stage.agent,
        " in parallel group" if together else "",
    )


def _order(request: StageRequest, context: StageContext, worktree: str, prompt: Prompt) -> RunOrder:
    return RunOrder(
        run_id=request.run_id,
        number=request.ref.number,
        stage=request.stage.name,
        agent=request.stage.agent,
        attempt=request.attempt,
        minutes=request.stage.minutes,
        deadline=request.stage.deadline,
        grace=request.stage.grace,
        prompt=prompt.text,
        prompt_by_schema=prompt.by_schema,
        worktree=worktree,
        head=request.head,
        started_at=context.started_at,
        continues=context.continues,
        most_usd=context.most_usd,
        declared=request.stage.declared,
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
