"""Failures, whose they are, and how many a requirement may still have."""

from dataclasses import dataclass, field
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
    PREPARE = "prepare"
    """What its clone needs could not be installed: the run was not started."""
    CONFLICT = "conflict"
    DELIVERY = "delivery"
    INFRASTRUCTURE = "infrastructure"
    PRE_EMPTED = "pre_empted"
    LIMITED = "limited"
    """The account of its program could not work: the run owes nothing."""
    HOST_LOST = "host_lost"
    """Its host was lost while it ran: another host runs it again."""
    REFUSED = "refused"
    ENDED = "ended"

    @property
    def is_red(self) -> bool:
        """Whether somebody's work was reviewed: only then it counts as a red of its gate."""
        return self not in (
            self.INFRASTRUCTURE,
            self.PRE_EMPTED,
            self.LIMITED,
            self.HOST_LOST,
            self.REFUSED,
            self.UNREAD,
            self.BLOCKED,
            self.ENDED,
        )

    def owners(self, *agents: str) -> tuple[str, ...]:
        """Who owns such a failure of these agents' work: nobody if no agent is at fault."""
        return () if self is self.INFRASTRUCTURE or self.is_free else agents

    @property
    def is_free(self) -> bool:
        """Whether the run is repeated at once and counts as none."""
        return self in (self.PRE_EMPTED, self.LIMITED, self.HOST_LOST)

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


# --- bounds: how many reds, reviews and fixes a requirement has used ------------------------------


@dataclass
class Counters:
    """Counts that outlive rounds. Gates are named as in `Failure.gate`.

    `repeated` are gates whose latest red said the same as the one before, `given_up` those whose
    fixes came to an end, with the reason; a human's answer for a gate clears what stands of it.
    """

    reds: dict[str, int] = field(default_factory=dict)
    signatures: dict[str, str] = field(default_factory=dict)
    repeated: dict[str, bool] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)
    reviews: int = 0
    fixes: int = 0
    counted: dict[str, bool] = field(default_factory=dict)
    """Gates that were counted since the last report: red on two commits of a round is red once."""

    def count(self, failure: Failure) -> None:
        """Count a red, and see whether its owner hears the same words again."""
        if not failure.kind.is_red:
            return
        gate, owners = failure.gate, ",".join(failure.owners)
        said = f"{owners} {failure.signature}" if failure.signature else ""
        if gate not in self.counted:
            self.reds[gate] = self.reds.get(gate, 0) + 1
            self.repeated[gate] = bool(said) and self.signatures.get(gate) == said
        self.signatures[gate] = said
        self.counted[gate] = True

    def close_round(self) -> None:
        """All that is red was reported: what is red from now on counts again."""
        self.counted.clear()

    def reset_streak(self, gate: str) -> None:
        """The gate is green: a later red is not one in a row."""
        for said in (self.signatures, self.repeated, self.given_up):
            said.pop(gate, None)

    def reset(self, gate: str) -> None:
        """A human answers for the gate: count its reds from zero."""
        self.reset_streak(gate)
        for counts in (self.reds, self.counted):
            counts.pop(gate, None)
