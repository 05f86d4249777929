"""What is red is reported, and a human is asked about what nobody else sees to."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from pipeline.failures import shared_out
    from pipeline.model import (
        HUMAN,
        ORCHESTRATOR,
        Ask,
        Escalation,
        FailureCollection,
        RequirementState,
    )
    from pipeline.plan_rules import DELIVER
    from pipeline.steering import possible_answers
    from pipeline.triage import Triage, triage
    from workflows import options
    from workflows.execution import Execution
    from workflows.view import question


class Questions:
    """Reports failures once each, and keeps the question that is open."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._board = execution.board
        self._spent_before = timedelta()
        self._is_reported = False
        """Whether the rows say BLOCKED: an answer, or a round of fixes, sets it going again."""
        self.asked: tuple[Ask, ...] = ()
        """What a human is asked and has not answered."""

    def take_up(self, asked: tuple[Ask, ...], spent: timedelta) -> None:
        """Go on from an earlier run of the workflow."""
        self.asked, self._spent_before = asked, spent

    def spent(self) -> timedelta:
        """The time that the requirement has taken, without what it waited for humans."""
        return self._spent_before + (workflow.now() - workflow.info().workflow_start_time)

    def waited(self, time: timedelta) -> None:
        """Leave that time out of what the requirement has spent."""
        self._spent_before -= time

    def triage(self) -> Triage:
        """Who sees to what is red now."""
        return triage(self._board, self._execution.ref.number, self.spent())

    async def report(self, plan: Triage) -> None:
        """Report all failures together, with what a human is asked of them."""
        if not (self._is_reported and self._is_known(plan)):
            await self._report(plan)
        waiting = [*(fix.number for fix in plan.fixes), *_human(plan.asks)]
        text = self._question(plan.asks)
        self._execution.display.show(RequirementState.BLOCKED, ", ".join(waiting), text)

    async def report_fix(self) -> None:
        """Report why a fix did not succeed: its orchestrator sees to it."""
        await self._report(Triage())

    def answered(self, stages: tuple[str, ...]) -> tuple[str, Escalation | None]:
        """An answer sets those stages going: who is waited for still, and what is asked still."""
        self.asked = tuple(ask for ask in self.asked if ask.stage not in (*stages, DELIVER))
        self._is_reported = False
        return self._show_pending(), self._escalation() if self.asked else None

    def repaired(self) -> str:
        """A round of fixes is over: who the requirement waits for now; nobody, if it goes on."""
        waiting_for = ""
        if self._board.failures:
            waiting_for = HUMAN if self._is_known(self.triage()) else ORCHESTRATOR
        self._is_reported = self._is_reported and bool(waiting_for)
        self._show_pending()
        return waiting_for

    def _is_known(self, plan: Triage) -> bool:
        """Whether nothing is to be done but to wait for the answer to what is asked already."""
        return self._is_asked(plan) and not (plan.fixes or plan.rework)

    def _is_asked(self, plan: Triage) -> bool:
        """Whether that is asked already; reasons may tell of hours, which go on."""
        return [ask.gate for ask in plan.asks] == [ask.gate for ask in self.asked]

    async def _report(self, plan: Triage) -> None:
        counts = self._execution.counts
        counts.rounds += 1
        self._board.tally.close_round()
        self._is_reported = True
        collection = FailureCollection(
            self._execution.ref,
            counts.rounds,
            shared_out(self._board.open_failures()),
            self._board.blocked_stages(),
            self._new_question(plan),
            ", ".join([*_orchestrator(plan), *_human(plan.asks)]),
        )
        await self._execution.insist(
            RecordActivities.aggregate_failures,
            collection,
            **options.central(f"Failures of round {counts.rounds}"),
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
        """Show, while it runs, who else is waited for; returns that."""
        waiting = ", ".join([*self._board.repairs.values(), *_human(self.asked)])
        self._execution.display.pending = (waiting, self._question(self.asked))
        return waiting

    def _question(self, asks: tuple[Ask, ...]) -> str:
        return question(self._execution.ref.number, asks, possible_answers(self._board, asks))


def _human(asks: tuple[Ask, ...]) -> list[str]:
    return [HUMAN] if asks else []


def _orchestrator(plan: Triage) -> list[str]:
    return [ORCHESTRATOR] if plan.fixes or plan.rework or not plan.asks else []
