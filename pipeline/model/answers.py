"""What a human may say."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from pipeline.model.references import RequirementRef


@dataclass(frozen=True)
class Reopening:
    """Records an answer: stages were reopened and the requirement goes on."""

    ref: RequirementRef
    occurrence: int
    """Counts the answers of the execution."""
    stages: tuple[str, ...]
    who: str
    why: str
    approved: tuple[str, ...] = ()
    """Stages whose verdict a human passed: they complete instead of running again."""


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
    """Moves the deadline of a running stage."""

    stage: str
    minutes: float
    who: str
    reason: str


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
