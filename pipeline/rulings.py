"""Questions about the rules and rulings on them, as values; the strictest of several wins."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

NUMBER = re.compile(r"\bREQ-[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")


class Verdict(StrEnum):
    """The answer to a question."""

    YES = "yes"
    UNCLEAR = "unclear"
    NO = "no"

    @property
    def strictness(self) -> int:
        """0 for yes, 2 for no: a stricter one is never replaced by a milder one."""
        return tuple(Verdict).index(self)


class Rule(StrEnum):
    """The five rules, in the words of the users' guide."""

    FAIL_FAST = "Rule 1: Fails fast if any dependency unavailable"
    NEVER_DOWNGRADE = "Rule 2: Never downgrades errors"
    P0_FIRST = "Rule 3: P0 items take precedence"
    RECOVERABLE = "Rule 4: Self-recoverable via Sasha"
    TRACKED = "Rule 5: All work tracked in SDLC database"


@dataclass(frozen=True)
class Question:
    """What an agent, or a human, asks; `correlation` is their own mark or ours.

    `requirement` is the number of the one that it is about, where it was named apart.
    """

    agent: str
    question: str
    context: str = ""
    correlation: str = ""
    requirement: str = ""

    @property
    def number(self) -> str:
        """The requirement it is about: named apart, in the question, or in its context; or none."""
        if self.requirement:
            return self.requirement
        found = NUMBER.search(self.question) or NUMBER.search(self.context)
        return found[0] if found else ""


@dataclass(frozen=True)
class Ruling:
    """An answer, the rule or fact that it follows from, and why."""

    answer: Verdict
    rule: str
    reason: str


@dataclass(frozen=True)
class RuleAnswer:
    """A ruling on a question; `source` names what it was made from."""

    question: Question
    ruling: Ruling
    source: str


NO_RULE = "none"
"""What stands for the rule where none was recognised."""


def strictest(rulings: Sequence[Ruling]) -> Ruling:
    """The one that stands of several: the first no, else unclear, unless there is one alone."""
    first = max(rulings, key=lambda ruling: ruling.answer.strictness)
    if first.answer is not Verdict.YES or len(rulings) == 1:
        return first
    reasons = " ".join(ruling.reason for ruling in rulings)
    return Ruling(Verdict.UNCLEAR, first.rule, f"Ask one thing at a time. {reasons}")


def under_floor(floor: Ruling, answer: Verdict, reason: str) -> Ruling:
    """What an adviser's word makes of a ruling: stricter, or better explained; never milder."""
    if answer.strictness < floor.answer.strictness:
        return floor
    return replace(floor, answer=answer, reason=f"{floor.reason} {reason}".strip())
