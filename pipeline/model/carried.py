"""What a requirement takes along when its history has grown long and it continues as new."""

from dataclasses import dataclass
from datetime import timedelta

from pipeline.model.answers import Ask
from pipeline.model.builds import Proof
from pipeline.model.failures import Failure
from pipeline.model.opening import Opening
from pipeline.model.standing import Standing
from pipeline.model.tally import Tally


@dataclass
class Counts:
    """Numbers that name records: they go on, so that nothing new is taken for a repeat."""

    builds: int = 0
    deliveries: int = 0
    rounds: int = 0
    escalations: int = 0
    answers: int = 0


@dataclass(frozen=True)
class Carried:
    """Everything that the next run of the workflow must know; nothing is under way.

    `spent` is the time that the requirement has taken, without what it waited for humans.
    """

    opening: Opening
    parallel: bool
    standing: Standing
    failures: tuple[Failure, ...]
    tally: Tally
    proofs: tuple[Proof, ...]
    asked: tuple[Ask, ...]
    spent: timedelta
    counts: Counts
