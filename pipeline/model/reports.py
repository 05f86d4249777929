"""All failures of a round: as they came in, and as one document."""

from dataclasses import dataclass

from pipeline.model.answers import ORCHESTRATOR, Escalation
from pipeline.model.failures import Failure, Severity
from pipeline.model.references import RequirementRef
from pipeline.model.stages import BlockedStage


@dataclass(frozen=True)
class FailureCollection:
    """All failures of a round, as they came in, for aggregation."""

    ref: RequirementRef
    round: int
    failures: tuple[Failure, ...]
    blocked: tuple[BlockedStage, ...] = ()
    escalation: Escalation | None = None
    """What a human is asked; None while fixes or a rework see to everything."""
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
