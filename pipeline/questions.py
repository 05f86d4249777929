"""Questions about the rules, decisions on them, and the facts they are made from, as values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import StrEnum

from pipeline.model import Mode, Pipeline, Priority, RequirementState, Stage, StageState

NUMBER = re.compile(r"\bREQ-[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")
HUMAN_ASKER = "human"
"""Who asks at the command line, unless told otherwise."""
NO_RULE = "none"
"""Stands for the rule where no rule was recognised."""


class Verdict(StrEnum):
    """The answer to a question."""

    YES = "yes"
    UNCLEAR = "unclear"
    NO = "no"

    @property
    def strictness(self) -> int:
        """0 for yes, 2 for no: a milder verdict never replaces a stricter one."""
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
    """What an agent, or a human, asks; `correlation` is the asker's mark or ours.

    `requirement` is the number of the requirement, if a field of its own names it.
    """

    agent: str
    question: str
    context: str = ""
    correlation: str = ""
    requirement: str = ""

    @property
    def number(self) -> str:
        """The requirement, from its field, the question or the context; empty if none is named."""
        if self.requirement:
            return self.requirement
        found = NUMBER.search(self.question) or NUMBER.search(self.context)
        return found[0] if found else ""


@dataclass(frozen=True)
class Decision:
    """An answer, the rule or fact that it follows from, and why."""

    answer: Verdict
    rule: str
    reason: str


@dataclass(frozen=True)
class RuleAnswer:
    """The decision on a question; `source` names what it was made from."""

    question: Question
    decision: Decision
    source: str


def under_floor(floor: Decision, answer: Verdict, reason: str) -> Decision:
    """The decision after a second opinion: stricter or better explained, never milder."""
    if answer.strictness < floor.answer.strictness:
        return floor
    return replace(floor, answer=answer, reason=f"{floor.reason} {reason}".strip())


@dataclass(frozen=True)
class StageFacts:
    """A stage and its latest run; `deadline` counts from that run's start, extensions included."""

    stage: Stage
    state: StageState
    attempt: int
    run_id: str
    deadline: timedelta


@dataclass(frozen=True)
class RequirementFacts:
    """A requirement as its rows show it at one moment.

    `stages` are in plan order; `fixes` counts the fixes opened so far, by gate; `open_p0s` are the
    P0 requirements that have not ended, and `blocks_p0` says whether one of them waits for this.
    """

    number: str
    priority: Priority
    state: RequirementState
    mode: Mode
    reason: str
    waiting_for: str
    pipeline: Pipeline
    stages: tuple[StageFacts, ...]
    fixes: Mapping[str, int] = field(default_factory=dict)
    open_p0s: tuple[str, ...] = ()
    blocks_p0: bool = False

    def of_agent(self, agent: str) -> StageFacts | None:
        """The agent's stage: the one that runs, else the first of the plan; None if it has none."""
        own = [each for each in self.stages if each.stage.agent == agent]
        running = [each for each in own if each.state is StageState.RUNNING]
        return next(iter(running or own), None)

    @property
    def passes_p0_gate(self) -> bool:
        """Whether an open P0 does not hold it: it is one itself, or one waits for it."""
        return self.priority is Priority.P0 or self.blocks_p0
