"""The stage: a slot, the P0 gate, a clone, the agent; then merge what it did and close its row."""

import asyncio
from dataclasses import replace
from datetime import datetime
from functools import partial

from temporalio import activity

from activities.persistence import notify_others, publish_soon, subscriber, until_persisted
from activities.retrying import step, tell_with_each_beat
from pipeline.accounts import limit_of
from pipeline.answers import Reading, read_run, unchanged
from pipeline.failures import cut, signature
from pipeline.model import (
    Extension,
    Failure,
    FailureKind,
    Head,
    Hold,
    MergeResult,
    Mode,
    RequirementRef,
    RunOrder,
    RunResult,
    StageContext,
    StageOutcome,
    StageRequest,
    StageState,
)
from pipeline.ports import HostPorts
from pipeline.prompt import Prompt


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
        try:
            if not_started := await self._start(request):
                return not_started
            on_start = partial(self._started, request)
            async with step("run its agent"):
                result = await self._ports.runs.attach(request.slot, on_start)
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
        """Start the run, or find it started; returns the outcome if it has no slot or is held."""
        runs = self._ports.runs
        while True:
            async with runs.slot(request.slot) as has_slot:
                if await runs.is_started(request.run_id):
                    if request.resumed:
                        await self._ports.store.resume_stage(request)
                    return None
                self._ports.readiness.check()
                pass_gate = (
                    self._ports.store.open_stage if has_slot else self._ports.store.queue_stage
                )
                agents, agent = self._ports.agents, request.stage.agent
                opened = await pass_gate(
                    request, subscriber(), agents.account(agent), agents.run_budget(agent)
                )
                await self._ports.publish(request.ref.number)
                if not isinstance(opened, StageContext):
                    if not opened:
                        await runs.queue(request.slot)
                    return self._not_started(request, opened)
                order = await self._prepared(request, opened)
                if await runs.start(order):
                    _announce(request)
                    return None
            # A P0 suspended it just now: it passes the gate again with its next slot.
            await runs.until_resumed(request.run_id)

    def _not_started(self, request: StageRequest, hold: Hold | None) -> StageOutcome:
        """The outcome of a stage that is held, or waits for a slot."""
        name, parallel = request.stage.name, self._ports.parallel
        state = StageState.HELD if hold else StageState.WAITING
        return StageOutcome(name, request.attempt, state, None, parallel, hold=hold)

    async def _prepared(self, request: StageRequest, context: StageContext) -> RunOrder:
        """The order of the run, with a clone at the one commit that everything names from now."""
        prepare = self._ports.prompts.prepare
        if not request.head:
            return _order(request, context, "", await prepare(request, context, ""))
        project = self._ports.project
        async with step("make its working copy"):
            if context.started_at:  # its records are gone, and its agent may be at work there
                head = await project.head(request.ref.number, context.base_commit)
            elif request.exact:
                head = request.head
            else:
                head = await project.head(request.ref.number)
            request = replace(request, head=head)
            worktree = await project.prepare(request)
        async with step("prepare what it is told"):
            prompt = await prepare(request, context, worktree)
        return _order(request, context, worktree, prompt)

    async def _close(self, request: StageRequest, result: RunResult) -> StageOutcome:
        reading = read_run(request, result)
        async with step("take over its work"):
            merge = await self._merge(request, reading)
        if merge and (failure := unchanged(request, reading, merge, result.report)):
            reading, merge = replace(reading, state=StageState.FAILED, failure=failure), None
        outcome = self._outcome(request, reading, merge)
        close = self._ports.store.close_stage
        limit = limit_of(result.report, self._ports.agents.after_limit(request.stage.agent))
        limit = limit if reading.failure and reading.failure.kind is FailureKind.LIMITED else None
        closed = await until_persisted(
            self._ports, partial(close, request, outcome, result, reading.notice, merge, limit)
        )
        publish_soon(self._ports, request.ref.number)
        if closed.may_notify:
            await until_persisted(self._ports, partial(notify_others, self._ports))
        return replace(outcome, cost=closed.cost)

    async def _started(self, request: StageRequest, at: datetime, head: Head | None) -> None:
        start_run, commit = self._ports.store.start_run, head.commit if head else ""
        await until_persisted(self._ports, partial(start_run, request.run_id, at, commit))

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
        """Suspend the requirement's agents while a P0 pre-empts them, else resume them.

        Returns the hold that names the P0.
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


def _announce(request: StageRequest) -> None:
    together = request.in_group and request.mode is Mode.PARALLEL
    activity.logger.info(
        "[%s] Starting %s (%s)%s",
        request.ref.number,
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
        most_usd=context.most_usd,
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
