"""A requirement's workflow: the host that takes it, its input and end, its snapshot."""

from dataclasses import dataclass
from datetime import timedelta

from pipeline.model.answers import ORCHESTRATOR, Ask
from pipeline.model.delivery import Delivered, Proof, Undo
from pipeline.model.failures import Counters, Failure
from pipeline.model.holds import Hold
from pipeline.model.plan import Expected, Head, Pipeline, Priority, RequirementRef, RequirementState
from pipeline.model.stages import WorkSnapshot


@dataclass(frozen=True)
class FixBase:
    """The host that a fix runs on, and the integration tip of its requirement."""

    host: str
    head: Head | None


@dataclass(frozen=True)
class ProjectId:
    """The repository that a requirement was started for.

    `path` is its place on the machine `node`; clones on other machines hold its first `commit`.
    """

    path: str
    node: str
    commit: str


@dataclass(frozen=True)
class OpeningRequest:
    """Asks a host to take a requirement."""

    ref: RequirementRef
    pipeline: Pipeline
    sequential: bool
    fix: FixBase | None = None
    needs_room: bool = True
    """A P0 is taken at once, whatever runs."""
    held: Hold | None = None
    """The outage that has held the opening until now."""
    target: str = ""
    """The branch to deliver to; empty for the one that is checked out."""
    undo: Undo | None = None
    """What the requirement takes back: its work is made at the opening."""
    project: ProjectId | None = None
    """The repository that it is for; None if it needs none."""


@dataclass(frozen=True)
class Opening:
    """A host's answer: it took the requirement, unless that is held: then it has no host yet.

    `head` is None where no project is needed (every agent and build is simulated). A host that
    `is_full` after all has taken nothing: all are asked again.
    """

    host: str
    head: Head | None
    target_branch: str
    parallel: bool
    hold: Hold | None = None
    is_full: bool = False


# --- snapshot for continue-as-new -----------------------------------------------------------------


@dataclass
class Counts:
    """Numbers that name records: they continue, so that nothing new is taken for a repeat."""

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
    snapshot: WorkSnapshot
    failures: tuple[Failure, ...]
    counters: Counters
    proofs: tuple[Proof, ...]
    asked: tuple[Ask, ...]
    spent: timedelta
    counts: Counts


# --- input and end --------------------------------------------------------------------------------


@dataclass(frozen=True)
class RequirementOrder:
    """Input of a requirement's workflow. The description stays in the requirement's row."""

    number: str
    title: str
    priority: Priority
    pipeline: Pipeline
    sequential: bool
    heartbeat: timedelta | None
    """Silence after which a stage's activity counts as lost; None never (time-skipping server)."""
    search_attributes: tuple[str, ...] = ()
    """Names of the search attributes that the server knows and the workflow sets."""
    pre_empts: bool = False
    """Whether running agents of lower priority are suspended until it has ended; a P0 alone may."""
    fix: FixBase | None = None
    """Where the work starts, for a fix: it runs its one stage and delivers nothing."""
    carried: Carried | None = None
    """Where the run before has stood; None for the first one."""
    target: str = ""
    """The branch to deliver to; empty for the one that is checked out when it opens."""
    undo: Undo | None = None
    """What is taken back, if that is all: then no agent works."""
    expected: Expected | None = None
    """How long it was likely to take when it was started; None of a fix."""
    project: ProjectId | None = None
    """The repository that it is for; None if it needs none."""


@dataclass(frozen=True)
class Closing:
    """Ends a requirement."""

    ref: RequirementRef
    state: RequirementState
    reason: str
    commit: str = ""
    who: str = ORCHESTRATOR
    left: str = ""
    """Why not everything could be cleaned up on the host `left_on`, which tries again."""
    left_on: str = ""
    delivered: Delivered | None = None
    """What has become of its work, if it was delivered."""


NOT_DELIVERED = "NotDelivered"
"""Type of the failure with which the workflow of a FAILED requirement ends; its detail is the
report."""


@dataclass(frozen=True)
class DeliveryReport:
    """Result of a requirement's workflow, or the detail of its failure."""

    number: str
    state: RequirementState
    reason: str
    commit: str
    failures: tuple[Failure, ...] = ()
    verdict: str = ""
    """Of a fix: what its one stage answered, and the flags that it raised."""
    flags: tuple[str, ...] = ()
