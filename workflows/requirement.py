"""The requirement's workflow: the list of its steps, and the answers that it takes."""

import asyncio
from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.opening import OpeningActivities
    from activities.records import RecordActivities
    from activities.runs import RunActivities
    from activities.uninterrupted import to_the_end
    from pipeline.board import Board
    from pipeline.errors import RefusedInput
    from pipeline.model import (
        Answer,
        DecisionRequest,
        DeliveryReport,
        Extension,
        ExtensionRequest,
        OpeningRequest,
        Reopened,
        Reopening,
        RequirementOrder,
        RequirementRef,
        RequirementState,
        RetryRequest,
    )
    from pipeline.plan_rules import DELIVER
    from pipeline.steering import (
        check_decision,
        check_extension,
        check_retry,
        pending_verdict,
        research_of,
    )
    from workflows import options
    from workflows.ending import Ending
    from workflows.execution import Execution
    from workflows.failures import describe
    from workflows.gates import BuildGates
    from workflows.gathering import stop_if_cancelled
    from workflows.rounds import Rounds
    from workflows.turnstile import Turnstile
    from workflows.view import View


@workflow.defn
class RequirementWorkflow:
    """One requirement, from its opening on a host to its delivery.

    Workflow ID: the requirement number, used once (reuse policy: reject duplicates).
    Waits for: a host with room; agents and builds; while BLOCKED, for `retry` or `decide`.
    Ends: DELIVERED, FAILED (aborted by a human or refused by its host), CANCELLED (cancellation).
    """

    @workflow.init
    def __init__(self, order: RequirementOrder) -> None:
        """Lay everything out; nothing happens before `run`."""
        self._order = order
        self._ref = RequirementRef(order.number, workflow.info().first_execution_run_id)
        self._board = Board(order.pipeline)
        view = View(order.number, order.search_attributes)
        self._execution = Execution(order, self._ref, self._board, Turnstile(), view)
        self._gates = BuildGates(self._execution)
        self._rounds = Rounds(self._execution, self._gates)
        self._ending = Ending(self._execution)
        self._books = asyncio.Lock()  # reports and answers are recorded in the order they happen
        self._deadlines = asyncio.Lock()  # each extension counts on those before it
        self._answers = 0

    @workflow.run
    async def run(self, order: RequirementOrder) -> DeliveryReport:
        """Open, run rounds until everything is green and delivered, close."""
        try:
            if refusal := await self._open():
                return await self._ending.close(RequirementState.FAILED, refusal)
            while not await self._rounds.run():
                await self._await_answer()
                if self._execution.abort:
                    return await self._give_up(self._execution.abort)
            return await self._ending.close(RequirementState.DELIVERED, "Delivered.")
        except (asyncio.CancelledError, ActivityError) as error:
            if is_cancelled_exception(error):
                await to_the_end(self._clean_up_cancelled())
            raise

    async def _open(self) -> str:
        """Find a host; returns why it refused, or nothing."""
        self._execution.show(RequirementState.ACCEPTED, "host")
        try:
            opening = await workflow.execute_activity_method(
                OpeningActivities.open_requirement,
                OpeningRequest(self._ref, self._order.pipeline, self._order.sequential),
                **options.opening(self._order),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise
            stop_if_cancelled()
            return describe(error)
        self._execution.take(opening)
        if self._execution.turnstile.parallel:
            workflow.logger.info("🚀 Executing workflow with PARALLELIZATION")
        return ""

    async def _await_answer(self) -> None:
        """Report all failures of the round together, then wait for a human."""
        stop_if_cancelled()
        async with self._books:
            if not self._board.is_stuck():
                return
            await self._rounds.report()
        await workflow.wait_condition(
            lambda: bool(self._execution.abort) or not self._board.is_stuck()
        )

    # --- answers --------------------------------------------------------------------------

    @workflow.update
    async def retry(self, request: RetryRequest) -> Reopened:
        """Reopen a stage that failed, and what depends on it; or try the delivery again."""
        async with self._books:
            self._accept(lambda: check_retry(self._board, request.stage))
            if request.stage != DELIVER:
                return await self._reopen(request.stage, request.who, request.note)
            await self._record((), request.who, request.note)
            self._board.retry_delivery()
            self._gates.forget_red()
            return Reopened((DELIVER,))

    @retry.validator
    def validate_retry(self, request: RetryRequest) -> None:
        """Refuse a retry that makes no sense now."""
        self._check_answerable()
        check_retry(self._board, request.stage)

    @workflow.update
    async def decide(self, request: DecisionRequest) -> Reopened:
        """Take a human's answer: pass a critique, send it back, or give the requirement up."""
        async with self._books:
            self._accept(lambda: check_decision(self._board, request.answer))
            if request.answer is Answer.ABORT:
                self._execution.abort = request
                return Reopened(())
            critique = pending_verdict(self._board)
            if request.answer is Answer.APPROVE:
                return await self._approve(critique.name, request)
            research = research_of(self._board, critique)
            return await self._reopen(research.name, request.who, request.note)

    @decide.validator
    def validate_decision(self, request: DecisionRequest) -> None:
        """Refuse an answer that was not asked for."""
        self._check_answerable()
        check_decision(self._board, request.answer)

    @workflow.update
    async def extend(self, request: ExtensionRequest) -> str:
        """Move the deadline of a running stage; returns the run that it belongs to."""
        async with self._deadlines:
            self._accept(lambda: check_extension(self._board, request.stage, request.minutes))
            attempt = self._board.cards[request.stage].attempt
            extension = Extension(
                run_id=f"{self._ref.key}/{request.stage}/{attempt}",
                ref=self._ref,
                stage=request.stage,
                minutes=request.minutes,
                deadline=self._board.deadline_after(request.stage, request.minutes),
                who=request.who,
                reason=request.reason,
            )
            await workflow.execute_activity_method(
                RunActivities.extend_run,
                extension,
                **self._tools(f"Extend {request.stage} by {request.minutes:g} minutes"),
            )
            self._board.extend(request.stage, attempt, request.minutes)
            return extension.run_id

    @extend.validator
    def validate_extension(self, request: ExtensionRequest) -> None:
        """Refuse to extend what does not run."""
        self._check_answerable()
        check_extension(self._board, request.stage, request.minutes)

    def _accept(self, check: Callable[[], None]) -> None:
        """Check again what the validator saw: an earlier answer may have been recorded since."""
        try:
            self._check_answerable()
            check()
        except RefusedInput as refusal:
            name = type(refusal).__name__
            raise ApplicationError(str(refusal), type=name, non_retryable=True) from refusal

    def _check_answerable(self) -> None:
        """Raises: RefusedInput once the end has begun: nothing may start any more."""
        if why := self._execution.why_over():
            raise RefusedInput(f"It is too late for an answer: {why}.")

    async def _reopen(self, name: str, who: str, why: str) -> Reopened:
        stages = self._board.reopened_by(name)
        await self._record(stages, who, why)
        self._board.reopen(name)
        return self._go_on(stages)

    async def _approve(self, critique: str, request: DecisionRequest) -> Reopened:
        stages = tuple(name for name in self._board.reopened_by(critique) if name != critique)
        await self._record(stages, request.who, request.note, (critique,))
        self._board.approve(critique)
        return self._go_on(stages)

    async def _record(
        self, stages: tuple[str, ...], who: str, why: str, approved: tuple[str, ...] = ()
    ) -> None:
        self._answers += 1
        await workflow.execute_activity_method(
            RecordActivities.record_reopening,
            Reopening(self._ref, self._answers, stages, who, why, approved),
            **options.central(f"{why or 'Answer'} ({who})"[:100]),
        )

    def _go_on(self, stages: tuple[str, ...]) -> Reopened:
        self._gates.forget_red()
        self._rounds.start_waiting()
        return Reopened(stages)

    # --- the end --------------------------------------------------------------------------

    async def _give_up(self, abort: DecisionRequest) -> DeliveryReport:
        reason = f"Aborted by {abort.who}. {abort.note}".strip()
        return await self._ending.give_up(RequirementState.FAILED, reason, abort.who)

    async def _clean_up_cancelled(self) -> None:
        """Wait until nothing runs, then leave rows, events and trees clean."""
        await self._rounds.cancel()
        async with self._books:
            pass  # an answer that is being recorded is recorded before the end
        await self._ending.give_up(RequirementState.CANCELLED, "Cancelled.")

    def _tools(self, summary: str) -> workflow.ActivityConfig:
        return options.tools(self._execution.host, self._order, summary)
