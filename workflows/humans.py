"""What humans are told and asked, how long they may take, and what their answers do."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

from temporalio import workflow
from temporalio.exceptions import ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from activities.stages import RunActivities
    from pipeline.errors import RefusedInput
    from pipeline.failures import truncated
    from pipeline.model import (
        HUMAN,
        OPENING,
        ORCHESTRATOR,
        RETRY,
        REWORK,
        Answer,
        Ask,
        DecisionRequest,
        Escalation,
        Extension,
        ExtensionRequest,
        FailureCollection,
        Reminder,
        Reopened,
        Reopening,
        RequirementState,
        RetryRequest,
    )
    from pipeline.plan_rules import DELIVER
    from pipeline.steering import (
        check_decision,
        check_extension,
        check_note,
        check_retry,
        pending_verdict,
        possible_answers,
        research_of,
    )
    from pipeline.triage import Triage, triage
    from pipeline.web_details import question
    from workflows import options
    from workflows.execution import Execution
    from workflows.gates import BuildGates
    from workflows.stages import StageRunner


class Questions:
    """Reports failures once each, and keeps the question that is open."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._board = execution.board
        self._spent_before = timedelta()
        self._is_reported = False
        """Whether the rows say BLOCKED, until an answer or a round of fixes."""
        self.asked: tuple[Ask, ...] = ()
        """The open questions to a human."""

    def restore(self, asked: tuple[Ask, ...], spent: timedelta) -> None:
        """Restore the state of an earlier run of the workflow."""
        self.asked, self._spent_before = asked, spent

    def spent(self) -> timedelta:
        """The time that the requirement has taken, without the waits for humans."""
        return self._spent_before + (workflow.now() - workflow.info().workflow_start_time)

    def waited(self, time: timedelta) -> None:
        """Leave that time out of the time spent."""
        self._spent_before -= time

    def triage(self) -> Triage:
        """The owners of what is red now."""
        return triage(self._board, self._execution.ref.number, self.spent())

    async def report(self, plan: Triage) -> None:
        """Report all failures together, with the questions to a human."""
        if not (self._is_reported and self._is_known(plan)):
            await self._report(plan)
        waiting = [*(fix.number for fix in plan.fixes), *_human(plan.asks)]
        text = self._question(plan.asks)
        self._execution.display.show(RequirementState.BLOCKED, ", ".join(waiting), text)

    async def report_fix(self) -> None:
        """Report why a fix did not succeed; its orchestrator decides what follows."""
        await self._report(Triage())

    def answered(self, stages: tuple[str, ...]) -> tuple[str, Escalation | None]:
        """After an answer reopens those stages: who is still waited for, what is still asked."""
        self.asked = tuple(ask for ask in self.asked if ask.stage not in (*stages, DELIVER))
        self._is_reported = False
        return self._show_pending(), self._escalation() if self.asked else None

    def repaired(self) -> str:
        """After a round of fixes: who the requirement waits for; empty if it continues."""
        waiting_for = ""
        if self._board.failures:
            waiting_for = HUMAN if self._is_known(self.triage()) else ORCHESTRATOR
        self._is_reported = self._is_reported and bool(waiting_for)
        self._show_pending()
        return waiting_for

    def _is_known(self, plan: Triage) -> bool:
        """Whether only the answer to an open question is missing."""
        return self._is_asked(plan) and not (plan.fixes or plan.rework)

    def _is_asked(self, plan: Triage) -> bool:
        """Whether that is asked already; compared by gate, as reasons may name elapsed hours."""
        return [ask.gate for ask in plan.asks] == [ask.gate for ask in self.asked]

    async def _report(self, plan: Triage) -> None:
        counts = self._execution.counts
        counts.rounds += 1
        self._board.counters.close_round()
        self._is_reported = True
        collection = FailureCollection(
            self._execution.ref,
            counts.rounds,
            truncated(self._board.open_failures()),
            self._board.blocked_stages(),
            self._new_question(plan),
            ", ".join([*_orchestrator(plan), *_human(plan.asks)]),
        )
        await self._execution.insist(
            RecordActivities.aggregate_failures,
            collection,
            **options.central(f"Report the failures of round {counts.rounds}"),
        )

    def _new_question(self, plan: Triage) -> Escalation | None:
        if not plan.asks or self._is_asked(plan):
            return None
        self.asked = plan.asks
        return self._escalation()

    def _escalation(self) -> Escalation:
        counts = self._execution.counts
        counts.escalations += 1
        answers = possible_answers(self._board, self.asked)
        return Escalation(counts.escalations, self.asked, answers)

    def _show_pending(self) -> str:
        """Show, while it runs, who else is waited for; also returned."""
        waiting = ", ".join([*self._board.repairs.values(), *_human(self.asked)])
        self._execution.display.pending = (waiting, self._question(self.asked))
        return waiting

    def _question(self, asks: tuple[Ask, ...]) -> str:
        return question(self._execution.ref.number, asks, possible_answers(self._board, asks))


def _human(asks: tuple[Ask, ...]) -> list[str]:
    return [HUMAN] if asks else []


def _orchestrator(plan: Triage) -> list[str]:
    return [ORCHESTRATOR] if plan.fixes or plan.rework or not plan.asks else []


class Answers:
    """Takes answers one at a time; the `journal` lock keeps records in the order of events."""

    def __init__(
        self, execution: Execution, gates: BuildGates, stages: StageRunner, questions: Questions
    ) -> None:
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._stages = stages
        self._questions = questions
        self.journal = asyncio.Lock()
        self._decided: tuple[DecisionRequest, Reopened] | None = None

    def next(self) -> int:
        """The number of the next answer, which distinguishes its record from a repeat."""
        self._execution.counts.answers += 1
        return self._execution.counts.answers

    # --- validation ---------------------------------------------------------------------------

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

    # --- answers ------------------------------------------------------------------------------

    async def retry(self, request: RetryRequest) -> Reopened:
        """Reopen a stage that failed, and what depends on it; or try the delivery again."""
        async with self.journal:
            _accept(lambda: self.check_retry(request))
            if request.stage not in (DELIVER, OPENING):
                return await self._reopen(request.stage, request.who, request.note, RETRY)
            await self._record((), request.who, request.note, RETRY)
            self._board.retry_delivery()
            return self._proceed((request.stage,))

    async def decide(self, request: DecisionRequest) -> Reopened:
        """Pass a critique, send it back, or give the requirement up.

        Giving up waits for nobody: another answer may hold the journal for as long as an outage.
        """
        if request.answer is Answer.ABORT:
            if not self._is_repeated(request):
                _accept(lambda: self.check_decision(request))
            self._execution.abort = request
            return Reopened(())
        async with self.journal:
            if self._decided and self._is_repeated(request):
                return self._decided[1]
            _accept(lambda: self.check_decision(request))
            reopened = await self._decide(request)
            self._decided = (request, reopened)
            return reopened

    async def rework(self, research: str, reasons: str) -> None:
        """Send research back with the reasons of its critique."""
        board = self._board
        board.counters.reviews += 1
        count = f"Review {board.counters.reviews} of {board.pipeline.bounds.reviews}"
        await self._reopen(research, ORCHESTRATOR, f"{count} asks for changes: {reasons}", REWORK)

    async def _decide(self, request: DecisionRequest) -> Reopened:
        critique = pending_verdict(self._board)
        if request.answer is Answer.APPROVE:
            return await self._approve(critique.name, request)
        research = research_of(self._board, critique)
        return await self._reopen(research.name, request.who, request.note, request.answer)

    async def _reopen(self, name: str, who: str, why: str, answer: str) -> Reopened:
        # Decide before recording: another answer may turn the check green meanwhile.
        check_only = self._board.repeats_check(name)
        stages = self._board.reopened_by(name, check_only=check_only)
        checks = (name,) if check_only else ()
        await self._record(stages, who, why, answer, checks=checks)
        self._board.reopen(name, check_only=check_only)
        return self._proceed((*checks, *stages))

    async def _approve(self, critique: str, request: DecisionRequest) -> Reopened:
        stages = tuple(name for name in self._board.reopened_by(critique) if name != critique)
        await self._record(stages, request.who, request.note, request.answer, (critique,))
        self._board.approve(critique)
        return self._proceed(stages)

    async def _record(
        self,
        stages: tuple[str, ...],
        who: str,
        why: str,
        answer: str,
        approved: tuple[str, ...] = (),
        checks: tuple[str, ...] = (),
    ) -> None:
        # A delivery repeats every check, so it answers every open question.
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
        # A human is told what cannot be recorded, and asks again; nobody asks for the orchestrator.
        record = self._execution.insist if who == ORCHESTRATOR else self._execution.do
        await record(
            RecordActivities.record_reopening,
            reopening,
            **options.central(f"{why or answer.capitalize()} ({who})"[:100]),
        )

    def _proceed(self, stages: tuple[str, ...]) -> Reopened:
        self._gates.forget_red()
        self._stages.start_waiting()
        return Reopened(stages)

    def _is_repeated(self, request: DecisionRequest) -> bool:
        """Whether this is the last answer again, with no question since."""
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


class Deadlines:
    """Moves deadlines one at a time: each extension adds to those before it."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._board = execution.board
        self._turn = asyncio.Lock()

    def check(self, request: ExtensionRequest) -> None:
        """Raises: RefusedInput for an extension of what does not run."""
        check_note(request.reason)
        self._execution.check_under_way()
        check_extension(self._board, request.stage, request.minutes)

    async def extend(self, request: ExtensionRequest) -> str:
        """Move the deadline of a running stage; returns the run that it belongs to."""
        async with self._turn:
            _accept(lambda: self._check_in_turn(request))
            attempt = self._board.entries[request.stage].attempt
            ref = self._execution.ref
            extension = Extension(
                run_id=f"{ref.key}/{request.stage}/{attempt}",
                ref=ref,
                stage=request.stage,
                minutes=request.minutes,
                deadline=self._board.deadline_after(request.stage, request.minutes),
                who=request.who,
                reason=request.reason,
            )
            await self._execution.do(
                RunActivities.extend_run,
                extension,
                **options.on_host(
                    self._execution.host,
                    f"Extend {request.stage} by {request.minutes:g} minutes",
                ),
            )
            self._board.extend(request.stage, attempt, request.minutes)
            return extension.run_id

    def _check_in_turn(self, request: ExtensionRequest) -> None:
        """Check what the validator cannot: an earlier extension may still have been under way."""
        self.check(request)
        if request.counted_from not in (None, self._board.deadline_after(request.stage, 0)):
            raise RefusedInput(f"The deadline of {request.stage} has been moved meanwhile.")


async def ask(execution: Execution, questions: Questions) -> None:
    """Wait until an answer reopens something or gives the requirement up; for days, if need be.

    Each reminder waits twice as long as the one before, so the history stays small.
    """
    asked_at, reminders, answers = workflow.now(), 0, execution.counts.answers
    patience = execution.order.pipeline.bounds.reminder
    while not await _answered(execution, answers, patience):
        patience *= 2
        reminders += 1
        await execution.insist(
            RecordActivities.remind,
            Reminder(execution.ref, execution.counts.escalations, reminders),
            **options.central(f"Remind a human, reminder {reminders}"),
        )
    questions.waited(workflow.now() - asked_at)


async def _answered(execution: Execution, answers: int, patience: timedelta) -> bool:
    """Whether a new answer was given; what it reopened may have ended already."""
    try:
        await workflow.wait_condition(
            lambda: bool(execution.abort) or execution.counts.answers > answers,
            timeout=patience,
            timeout_summary="Remind a human",
        )
    except TimeoutError:
        return False
    return True


def _accept(check: Callable[[], None]) -> None:
    """Repeat the validator's check: an earlier answer may have been recorded since.

    Raises: ApplicationError of the refusal's type, as a validator's refusal reaches the caller.
    """
    try:
        check()
    except RefusedInput as refusal:
        name = type(refusal).__name__
        raise ApplicationError(str(refusal), type=name, non_retryable=True) from refusal
