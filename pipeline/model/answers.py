"""What a human is asked and may answer, and the report that asks."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from pipeline.model.failures import Failure, Severity
from pipeline.model.plan import RequirementRef
from pipeline.model.stages import BlockedStage

HUMAN = "human"
"""Who a requirement waits for, where it is neither a fix nor the orchestrator."""
ORCHESTRATOR = "orchestrator"
"""Who moves a requirement, or ends it, where no human does."""
SASHA = "sasha"
"""Who repairs the infrastructure; her workflow has that id."""
RETRY = "retry"
REWORK = "rework"
REPAIR = "repair"
"""What sets a requirement going again besides an `Answer`, as it stands in the notes."""


@dataclass(frozen=True)
class Ask:
    """One open failure that a human must handle, and why no agent can."""

    stage: str
    gate: str
    reason: str


@dataclass(frozen=True)
class Escalation:
    """What a human is asked, all of it, and the commands that answer; counts within the execution.

    `answers` are words of the command line without the requirement's number: `retry deliver`.
    """

    occurrence: int
    asks: tuple[Ask, ...]
    answers: tuple[str, ...]


@dataclass(frozen=True)
class Reopening:
    """Records an answer: stages were reopened and the requirement continues."""

    ref: RequirementRef
    occurrence: int
    """Counts the answers of the execution."""
    stages: tuple[str, ...]
    who: str
    why: str
    answer: str
    """What was said: an `Answer`, `RETRY`, or `REWORK` where the orchestrator says it."""
    approved: tuple[str, ...] = ()
    """Stages whose verdict a human passed: they complete instead of running again."""
    waiting_for: str = ""
    """Fixes under way and, where other questions stay open, a human."""
    escalation: Escalation | None = None
    """The questions that stay open; asked again in place of the answered one."""
    checks: tuple[str, ...] = ()
    """Stages whose work stands, and of which a check is made again."""


@dataclass(frozen=True)
class Reminder:
    """Says again that a human is asked; `occurrence` counts the reminders of one escalation."""

    ref: RequirementRef
    escalation: int
    occurrence: int


class Answer(StrEnum):
    """Answers to a blocked requirement."""

    APPROVE = "approve"
    REQUEST_CHANGES = "request-changes"
    ABORT = "abort"


@dataclass(frozen=True)
class RetryRequest:
    """Reopens a stage and what depends on it; stage `deliver` tries the delivery again."""

    stage: str
    who: str
    note: str = ""


@dataclass(frozen=True)
class DecisionRequest:
    """A human's answer to a blocked requirement."""

    answer: Answer
    who: str
    note: str = ""


@dataclass(frozen=True)
class Reopened:
    """What an answer set in motion: the stages that wait to run again, in plan order."""

    stages: tuple[str, ...]


@dataclass(frozen=True)
class ExtensionRequest:
    """Moves the deadline of a running stage.

    `counted_from` is the deadline that the minutes were computed from: refused if another
    extension has moved it since. None adds them to whatever it is.
    """

    stage: str
    minutes: float
    who: str
    reason: str
    counted_from: timedelta | None = None


@dataclass(frozen=True)
class Extension:
    """An accepted extension: `deadline` is the run's new one, all extensions so far included."""

    run_id: str
    ref: RequirementRef
    stage: str
    minutes: float
    deadline: timedelta
    who: str
    reason: str


# --- the report: all failures of a round ----------------------------------------------------------


@dataclass(frozen=True)
class FailureCollection:
    """All failures of a round, as they came in, for aggregation."""

    ref: RequirementRef
    round: int
    failures: tuple[Failure, ...]
    blocked: tuple[BlockedStage, ...] = ()
    escalation: Escalation | None = None
    """What a human is asked; None while fixes or a rework handle everything."""
    waiting_for: str = ORCHESTRATOR
    """The orchestrator, a human, or both."""


@dataclass(frozen=True)
class FailureReport:
    """All failures of a round as one document, worst first."""

    number: str
    round: int
    severity: Severity
    failures: tuple[Failure, ...]
    text: str
