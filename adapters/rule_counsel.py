"""The whole answer to a question about the rules: rules, facts, and perhaps advice."""

from typing import Protocol

from pipeline.errors import AdviserFailed, DependencyUnavailable, UnknownRequirement
from pipeline.ports import RuleFacts
from pipeline.rule_facts import RequirementFacts
from pipeline.rules import rule_on
from pipeline.rulings import Question, RuleAnswer, Ruling, Verdict, under_floor

RULES = "rules"


class Adviser(Protocol):
    """Looks at a ruling once more; what it says never makes it milder."""

    async def advise(self, question: Question, ruling: Ruling) -> tuple[Verdict, str]:
        """An answer and why. Raises: AdviserFailed."""


class RuleCounsel:
    """Answers questions; `source` of an answer says what stood behind it."""

    def __init__(self, facts: RuleFacts, adviser: Adviser | None = None) -> None:
        self._facts = facts
        self._adviser = adviser

    async def answer(self, question: Question) -> RuleAnswer:
        """The answer, in a bounded time, whatever cannot be reached."""
        facts, source = await self._known(question.number)
        ruling = rule_on(question, facts)
        # a no is final: nobody need be paid for it
        if self._adviser is None or ruling.answer is Verdict.NO:
            return RuleAnswer(question, ruling, source)
        try:
            answer, reason = await self._adviser.advise(question, ruling)
        except AdviserFailed as failure:
            return RuleAnswer(question, ruling, f"{source}; {failure}")
        advised = under_floor(ruling, answer, reason)
        taken = "advised by" if advised is not ruling else "milder advice refused of"
        return RuleAnswer(question, advised, f"{source}; {taken} Sasha's program")

    async def _known(self, number: str) -> tuple[RequirementFacts | None, str]:
        if not number:
            return None, RULES
        try:
            return await self._facts.of(number), f"{RULES} and the SDLC database"
        except UnknownRequirement as unknown:
            return None, f"{RULES}; {str(unknown).rstrip('.').replace('There', 'there', 1)}"
        except DependencyUnavailable:
            return None, f"{RULES}; the SDLC database cannot be reached"
