"""The requirement's workflow: the list of its steps, and the answers that it takes."""

import asyncio
from dataclasses import replace

from temporalio import workflow
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.opening import OpeningActivities
    from activities.persistence import shielded
    from activities.records import RecordActivities
    from pipeline.board import Board
    from pipeline.model import (
        APPLY_PREEMPTION,
        OPENING,
        ORCHESTRATOR,
        RELEASE,
        REPAIRED,
        TURN,
        DecisionRequest,
        DeliveryReport,
        ExtensionRequest,
        Opening,
        OpeningRequest,
        Priority,
        Reopened,
        RequirementOrder,
        RequirementRef,
        RequirementState,
        RetryRequest,
    )
    from pipeline.repairs import unblock
    from pipeline.undo import take_revert
    from workflows import options
    from workflows.continuing import is_long, restore, snapshot
    from workflows.delivery import Delivery
    from workflows.ending import Ending, comes_true, result_of
    from workflows.execution import Execution, SerialLock
    from workflows.faults import describe, failure_of, is_infrastructure, is_mendable
    from workflows.gates import BuildGates
    from workflows.humans import Answers, Deadlines, Questions, ask
    from workflows.recovery import Recoveries
    from workflows.stages import StageRunner
    from workflows.suspension import Suspension
    from workflows.view import Display, RequirementView


@workflow.defn
class RequirementWorkflow:
    """One requirement, from its opening on a host to its delivery; or one fix of it.

    Workflow ID: the requirement number, used once (reuse policy: reject duplicates).
    Waits for: a host with room; agents and builds; while HELD, for `release`, `turn` or
    `repaired`; while BLOCKED, for fixes, `retry` or `decide`.
    Ends: DELIVERED, FAILED (aborted by a human, a project that its host refuses, a fix that did not
    succeed), CANCELLED (cancellation). A fix runs its one stage, delivers nothing and asks nobody.
    """

    @workflow.init
    def __init__(self, order: RequirementOrder) -> None:
        """Put the steps together; nothing happens before `run`."""
        carried = order.carried
        self._order = order = replace(order, carried=None)
        self._board = Board(order.pipeline)
        ref = RequirementRef(order.number, workflow.info().first_execution_run_id)
        view = RequirementView(order)
        display = Display(view, self._board)
        self._execution = Execution(order, ref, self._board, SerialLock(), display)
        if order.undo:
            take_revert(self._board)
        self._gates = gates = BuildGates(self._execution)
        self._stages = StageRunner(self._execution, gates)
        self._delivery = Delivery(self._execution, gates)
        self._questions = Questions(self._execution)
        if carried:
            restore(carried, self._execution, gates, self._questions)
        self._recoveries = Recoveries(self._execution, gates, self._questions)
        self._answers = Answers(self._execution, gates, self._stages, self._questions)
        self._deadlines = Deadlines(self._execution)
        self._standstill = Suspension(self._execution)
        self._ending = Ending(self._execution)

    @workflow.run
    async def run(self, order: RequirementOrder) -> DeliveryReport:
        """Run the requirement to its end; a cancellation or an abort ends whatever it does.

        The work is a task of its own, so both reach it wherever it waits. One that has FAILED fails
        its workflow, with the report.
        """
        work = asyncio.create_task(self._work(order))
        try:
            await workflow.wait_condition(lambda: work.done() or bool(self._execution.abort))
        except asyncio.CancelledError:
            end = (RequirementState.CANCELLED, "Cancelled.", ORCHESTRATOR)
            report, had_ended = await shielded(self._stop(work, *end))
            if had_ended:
                return result_of(report)
            raise
        if abort := self._execution.abort:
            reason = f"Aborted by {abort.who}. {abort.note}".strip()
            end = (RequirementState.FAILED, reason, abort.who)
            report, _ = await shielded(self._stop(work, *end))
            return result_of(report)
        return result_of(work.result())

    async def _work(self, order: RequirementOrder) -> DeliveryReport:
        """Open, run rounds until everything is green and delivered, close."""
        if not order.carried and (refusal := await self._open()):
            return await self._ending.close(RequirementState.FAILED, refusal)
        if order.fix:
            return await self._fix()
        while not await self._round():
            await self._continue_if_long()
            await self._see_to_failures()
        delivered = self._delivery.delivered
        reason = delivered.text if delivered else "Delivered."
        return await self._ending.close(RequirementState.DELIVERED, reason, delivered=delivered)

    async def _round(self) -> bool:
        """Run stages, then deliver if everything is green; whether it is delivered."""
        self._execution.stop_if_over()
        await self._run_stages()
        return self._board.is_green() and await self._delivery.run()

    async def _run_stages(self) -> None:
        """Run everything that can run, until nothing does."""
        if self._board.waiting():
            self._execution.display.show(RequirementState.RUNNING)
        await self._stages.run()
        while unblock(self._board):  # a build was red, and is green on what was merged since
            await self._stages.run()

    async def _continue_if_long(self) -> None:
        """Continue as new between two rounds, when nothing is under way."""
        if not is_long():
            return
        # A request to suspend its agents, which may come meanwhile, goes first.
        await workflow.wait_condition(
            lambda: self._standstill.lasts or workflow.all_handlers_finished()
        )
        is_quiet = self._board.is_stuck() and not self._standstill.lasts
        if is_quiet and not self._execution.abort:
            self._execution.stop_if_over()
            carried = snapshot(self._execution, self._gates, self._questions)
            workflow.continue_as_new(replace(self._order, carried=carried))

    async def _open(self) -> str:
        """Find a host; returns why it refused, or nothing.

        Exhausted retries, and an agents file that has to be mended, ask a human; then it is tried
        again.
        """
        while True:
            self._execution.display.show(RequirementState.ACCEPTED, "host")
            try:
                if self._order.pre_empts and not self._order.fix:
                    await self._execution.do(
                        RecordActivities.pre_empt,
                        self._execution.ref,
                        **options.central("Suspend less urgent agents"),
                    )
                opening = await self._opening()
                break
            except ActivityError as error:
                if is_cancelled_exception(error):
                    raise
                self._execution.stop_if_over()
                if self._order.fix or not (is_infrastructure(error) or is_mendable(error)):
                    return describe(error)
                await self._ask_about_opening(error)
        self._execution.take(opening)
        if self._execution.serial_lock.parallel and not self._order.fix:
            workflow.logger.info("🚀 Executing workflow with PARALLELIZATION")
        return ""

    async def _ask_about_opening(self, error: ActivityError) -> None:
        self._board.fail(failure_of(error, stage=OPENING, gate=OPENING, owners=()))
        async with self._answers.journal:
            await self._questions.report(self._questions.triage())
        await ask(self._execution, self._questions)

    async def _opening(self) -> Opening:
        """The answer of the host that took it, however long the opening is held."""
        order, fix = self._order, self._order.fix
        needs_room = order.priority is not Priority.P0
        request = OpeningRequest(
            self._execution.ref,
            order.pipeline,
            order.sequential,
            fix,
            needs_room,
            target=order.target,
            undo=order.undo,
            project=order.project,
        )
        if fix:
            return await self._execution.do(
                OpeningActivities.open_fix,
                request,
                **options.tools(fix.host, order, "Open the fix"),
            )
        while True:
            opening = await self._execution.do(
                OpeningActivities.open_requirement, request, **options.opening(order)
            )
            if not opening.is_full:
                return opening

    async def _fix(self) -> DeliveryReport:
        """Run the one stage; the orchestrator judges its commit and its answer."""
        await self._run_stages()
        self._execution.stop_if_over()
        failures = self._board.open_failures()
        if any(not failure.kind.is_answer for failure in failures):
            await self._questions.report_fix()
            return await self._ending.give_up(RequirementState.FAILED, failures[0].error)
        (entry,) = self._board.entries.values()
        report = await self._ending.give_up(RequirementState.DELIVERED, entry.summary)
        return replace(report, verdict=entry.verdict, flags=entry.flags)

    async def _see_to_failures(self) -> None:
        """Send every failure to its owner or a human, and wait until something can run."""
        self._execution.stop_if_over()
        async with self._answers.journal:
            if not self._board.is_stuck():
                return
            plan = self._questions.triage()
            await self._questions.report(plan)
            if plan.rework:
                return await self._answers.rework(plan.rework, plan.reasons)
        if plan.fixes:
            recovered = await self._recoveries.repair(plan.fixes)
            async with self._answers.journal:
                await self._recoveries.record(recovered, self._answers.next())
        else:
            await ask(self._execution, self._questions)

    async def _stop(
        self, work: asyncio.Task[DeliveryReport], state: RequirementState, reason: str, who: str
    ) -> tuple[DeliveryReport, bool]:
        """End what runs and clean up rows, events and clones, in bounded time.

        Returns the report, and whether it belongs to an end that came first.
        """
        patience = options.FIX_STOP_PATIENCE if self._order.fix else options.STOP_PATIENCE
        stopping = asyncio.create_task(self._stop_work(work))
        await comes_true(stopping.done, patience)
        if work.done() or self._execution.is_ending:
            await workflow.wait_condition(work.done)
            if not work.cancelled() and work.exception() is None:
                return work.result(), True  # a delivery that came first stands
        await comes_true(lambda: not self._answers.journal.locked(), options.HANDLERS_PATIENCE)
        reason = f"{reason} {self._delivery.where}".strip()
        return await self._ending.give_up(state, reason, who, is_hasty=True), False

    async def _stop_work(self, work: asyncio.Task[DeliveryReport]) -> None:
        """Cancel everything and wait for its end; errors become incidents."""
        work.cancel()
        await self._standstill.cancel()
        tasks = (work, asyncio.create_task(self._cancel_stages()))
        for error in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(error, Exception) and not is_cancelled_exception(error):
                self._execution.faults.report("stop", error, self._execution.host)

    async def _cancel_stages(self) -> None:
        await self._stages.cancel()
        await self._gates.end()

    @workflow.signal(name=RELEASE)
    def release(self, gate_version: int) -> None:
        """The P0 gate may be open: retry what is held."""
        self._execution.notifications.release(gate_version)

    @workflow.signal(name=TURN)
    def turn(self) -> None:
        """It may be its turn to deliver: ask again."""
        self._execution.notifications.turn()

    @workflow.signal(name=APPLY_PREEMPTION)
    def apply_preemption(self) -> None:
        """A P0 pre-empts what runs, or a human pauses it."""
        self._standstill.begin()

    @workflow.signal(name=REPAIRED)
    def repaired(self, dependency: str) -> None:
        """A dependency is back: retry what it held."""
        self._execution.notifications.repaired(dependency)

    # --- answers --------------------------------------------------------------------------

    @workflow.update
    async def retry(self, request: RetryRequest) -> Reopened:
        """Reopen a stage that failed, and what depends on it; or try the delivery again."""
        return await self._answers.retry(request)

    @retry.validator
    def validate_retry(self, request: RetryRequest) -> None:
        """Refuse a retry that makes no sense now."""
        self._answers.check_retry(request)

    @workflow.update
    async def decide(self, request: DecisionRequest) -> Reopened:
        """Take a human's answer: pass a critique, send it back, or give the requirement up."""
        return await self._answers.decide(request)

    @decide.validator
    def validate_decision(self, request: DecisionRequest) -> None:
        """Refuse an answer that was not asked for."""
        self._answers.check_decision(request)

    @workflow.update
    async def extend(self, request: ExtensionRequest) -> str:
        """Move the deadline of a running stage; returns the run that it belongs to."""
        return await self._deadlines.extend(request)

    @extend.validator
    def validate_extension(self, request: ExtensionRequest) -> None:
        """Refuse to extend what does not run."""
        self._deadlines.check(request)
