"""What a human says to a requirement: checked, recorded, done."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from pipeline.errors import RefusedInput
    from pipeline.model import (
        OPENING,
        ORCHESTRATOR,
        RETRY,
        REWORK,
        Answer,
        DecisionRequest,
        Reopened,
        Reopening,
        RetryRequest,
    )
    from pipeline.plan_rules import DELIVER
    from pipeline.steering import (
        check_decision,
        check_note,
        check_retry,
        pending_verdict,
        research_of,
    )
    from workflows import options
    from workflows.accepting import accept
    from workflows.execution import Execution
    from workflows.gates import BuildGates
    from workflows.questions import Questions
    from workflows.stages import StageRunner


class Answers:
    """Takes answers one at a time; `books` keeps records in the order in which things happen."""

    def __init__(
        self, execution: Execution, gates: BuildGates, stages: StageRunner, questions: Questions
    ) -> None:
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._stages = stages
        self._questions = questions
        self.books = asyncio.Lock()
        self._decided: tuple[DecisionRequest, Reopened] | None = None

    def next(self) -> int:
        """The number of the next answer, which tells its record from a repeat."""
        self._execution.counts.answers += 1
        return self._execution.counts.answers

    # --- what may be said ---------------------------------------------------------------------

    def check_retry(self, request: RetryRequest) -> None:
        """Raises: RefusedInput for a retry that makes no sense now."""
        check_note(request.note)
        self._check_answerable()
        check_retry(self._board, request.stage)

    def check_decision(self, request: DecisionRequest) -> None:
        """Raises: RefusedInput for an answer that was not asked for.

        The very answer that was given last passes: it has no second effect.
        """
        check_note(request.note)
        if not self._is_repeated(request):
            self._check_answerable()
            check_decision(self._board, request.answer)

    # --- what it does -------------------------------------------------------------------------

    async def retry(self, request: RetryRequest) -> Reopened:
        """Reopen a stage that failed, and what depends on it; or try the delivery again."""
        async with self.books:
            accept(lambda: self.check_retry(request))
            if request.stage not in (DELIVER, OPENING):
                return await self._reopen(request.stage, request.who, request.note, RETRY)
            await self._record((), request.who, request.note, RETRY)
            self._board.retry_delivery()
            return self._go_on((request.stage,))

    async def decide(self, request: DecisionRequest) -> Reopened:
        """Pass a critique, send it back, or give the requirement up.

        Giving up waits for nobody: another answer may hold the books for as long as an outage.
        """
        if request.answer is Answer.ABORT:
            if not self._is_repeated(request):
                accept(lambda: self.check_decision(request))
            self._execution.abort = request
            return Reopened(())
        async with self.books:
            if self._decided and self._is_repeated(request):
                return self._decided[1]
            accept(lambda: self.check_decision(request))
            reopened = await self._decide(request)
            self._decided = (request, reopened)
            return reopened

    async def rework(self, research: str, reasons: str) -> None:
        """Send research back with the reasons of its critique."""
        board = self._board
        board.tally.reviews += 1
        count = f"Review {board.tally.reviews} of {board.pipeline.bounds.reviews}"
        await self._reopen(research, ORCHESTRATOR, f"{count} asks for changes: {reasons}", REWORK)

    async def _decide(self, request: DecisionRequest) -> Reopened:
        critique = pending_verdict(self._board)
        if request.answer is Answer.APPROVE:
            return await self._approve(critique.name, request)
        research = research_of(self._board, critique)
        return await self._reopen(research.name, request.who, request.note, request.answer)

    async def _reopen(self, name: str, who: str, why: str, answer: str) -> Reopened:
        # Decided before it is recorded: another answer may turn the check green meanwhile.
        check_only = self._board.repeats_check(name)
        stages = self._board.reopened_by(name, check_only=check_only)
        checks = (name,) if check_only else ()
        await self._record(stages, who, why, answer, checks=checks)
        self._board.reopen(name, check_only=check_only)
        return self._go_on((*checks, *stages))

    async def _approve(self, critique: str, request: DecisionRequest) -> Reopened:
        stages = tuple(name for name in self._board.reopened_by(critique) if name != critique)
        await self._record(stages, request.who, request.note, request.answer, (critique,))
        self._board.approve(critique)
        return self._go_on(stages)

    async def _record(
        self,
        stages: tuple[str, ...],
        who: str,
        why: str,
        answer: str,
        approved: tuple[str, ...] = (),
        checks: tuple[str, ...] = (),
    ) -> None:
        # a delivery makes every check again, so it answers whatever is asked
        answered = (*stages, *approved, *checks) or tuple(
            ask.stage for ask in self._questions.asked
        )
        waiting_for, left = self._questions.answered(answered)
        reopening = Reopening(
            self._execution.ref,
            self.next(),
            stages,
            who,
            why,
            answer,
            approved,
            waiting_for,
            left,
            checks,
        )
        # A human hears what cannot be recorded; the orchestrator has nobody who would ask again.
        record = self._execution.insist if who == ORCHESTRATOR else self._execution.do
        await record(
            RecordActivities.record_reopening,
            reopening,
            **options.central(f"{why or answer.capitalize()} ({who})"[:100]),
        )

    def _go_on(self, stages: tuple[str, ...]) -> Reopened:
        self._gates.forget_red()
        self._stages.start_waiting()
        return Reopened(stages)

    def _is_repeated(self, request: DecisionRequest) -> bool:
        """Whether that very answer was given last, and nothing was asked since."""
        if request.answer is Answer.ABORT:
            return request == self._execution.abort
        is_same = self._decided is not None and self._decided[0] == request
        return is_same and not self._board.is_stuck()

    def _check_answerable(self) -> None:
        self._execution.check_under_way()
        if self._execution.order.fix:
            raise RefusedInput(
                f"{self._execution.ref.number} is a fix, which asks nobody: answer the requirement "
                "that it repairs."
            )
