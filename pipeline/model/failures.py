"""Failures: what failed, how badly, and whose it is."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class FailureKind(StrEnum):
    """What failed: it decides the owner, whether a run is tried again, and what counts as a red."""

    CRASH = "crash"
    TIMEOUT = "timeout"
    NOTICE = "notice"
    UNREAD = "unread"
    FAILED = "failed"
    BLOCKED = "blocked"
    CRITIQUE = "critique"
    VERDICT = "verdict"
    BUILD = "build"
    CONFLICT = "conflict"
    DELIVERY = "delivery"
    INFRASTRUCTURE = "infrastructure"
    PRE_EMPTED = "pre_empted"
    REFUSED = "refused"
    ENDED = "ended"

    @property
    def is_red(self) -> bool:
        """Whether somebody's work was judged: only then it counts as a red of its gate."""
        return self not in (
            self.INFRASTRUCTURE,
            self.PRE_EMPTED,
            self.REFUSED,
            self.UNREAD,
            self.BLOCKED,
            self.ENDED,
        )

    def owners(self, *agents: str) -> tuple[str, ...]:
        """Who owns such a failure of these agents' work: nobody if no agent is at fault."""
        return () if self in (self.INFRASTRUCTURE, self.PRE_EMPTED) else agents

    @property
    def is_of_run(self) -> bool:
        """Whether a run of the agent itself is at fault, which its fix then stands for."""
        return self.is_unanswered or self in (self.FAILED, self.CONFLICT)

    @property
    def judges_nobody(self) -> bool:
        """Whether a check could not be made at all: what it was to judge stands as it is."""
        return self in (self.INFRASTRUCTURE, self.REFUSED)

    @property
    def is_answer(self) -> bool:
        """Whether an agent's verdict is red: its own run is in order."""
        return self in (self.VERDICT, self.CRITIQUE)

    @property
    def is_unanswered(self) -> bool:
        """Whether the run ended without a valid notice: only then `retries` apply."""
        return self in (self.CRASH, self.TIMEOUT, self.NOTICE)


class Severity(IntEnum):
    """How bad it is; aggregation takes the maximum, so it only rises."""

    ERROR = 1
    CRITICAL = 2
    CATASTROPHIC = 3


@dataclass(frozen=True)
class Failure:
    """One failure with its owner: what a fix, a human or a report needs.

    `gate` names the check that is red (`build backend`, `verdict Backend QA`, …);
    `error` holds the first error lines, cut to 8,000 characters; `signature` tells whether two
    failures say the same, and is empty where nothing but we said anything.
    """

    stage: str
    kind: FailureKind
    gate: str
    owners: tuple[str, ...]
    error: str
    severity: Severity = Severity.ERROR
    log_reference: str = ""
    commit: str = ""
    signature: str = ""
