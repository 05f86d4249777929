"""Reports failures, and asks a human about those that nobody else owns."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from pipeline.failures import truncated
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
