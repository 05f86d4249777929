"""One stage's standing, and how often it may be tried."""

from dataclasses import dataclass

from pipeline.model.failures import FailureKind
from pipeline.model.references import Head
from pipeline.model.states import StageState

INFRASTRUCTURE_LOSSES = 3
"""Losses in a row after which a stage blocks (design, section 1)."""


@dataclass
class StageCard:
    """One stage's standing.

    `tries` counts unanswered runs, `losses` those of infrastructure in a row, `extended_minutes`
    belong to the current attempt; `fixes` are those merged on the stage's behalf. An attempt that
    `resumes` was given up because of infrastructure: the next one is the same.

    A verdict has seen the implementers' work whose marks stood when it was asked for (`judged`),
    and whatever was merged by the integration tip that its agent has started on (`base`): it may
    have waited for a slot in between. Until that is known `base` is the tip when the attempt was
    first asked for. `merged` is the tip with the stage's latest work.
    """

    state: StageState = StageState.WAITING
    attempt: int = 0
    tries: int = 0
    losses: int = 0
    reason: str = ""
    summary: str = ""
    verdict: str = ""
    flags: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()
    base: Head | None = None
    merged: Head | None = None
    extended_minutes: float = 0.0
    resumes: bool = False

    def mark(self, stage: str) -> str:
        """Names what of the stage is merged: `stage#attempt`, then the fixes."""
        return "+".join((f"{stage}#{self.attempt}", *self.fixes))

    def repeated_after(self, retries: int) -> tuple[FailureKind, ...]:
        """The failures of the next run after which another attempt follows at once.

        Source: design, section 1: `retries` apply to a run without a valid notice; infrastructure
        losses never count as a try. A run that died while it had to stand still owes nothing.
        """
        free = [FailureKind.PRE_EMPTED]
        if self.losses + 1 < INFRASTRUCTURE_LOSSES:
            free.append(FailureKind.INFRASTRUCTURE)
        unanswered = [kind for kind in FailureKind if kind.is_unanswered]
        return (*free, *unanswered) if self.tries < retries else tuple(free)

    def count(self, kind: FailureKind | None) -> None:
        """Count how a run ended; None is an end without a failure."""
        if kind is FailureKind.PRE_EMPTED:
            return
        self.losses = self.losses + 1 if kind is FailureKind.INFRASTRUCTURE else 0
        self.tries += bool(kind and kind.is_unanswered)
