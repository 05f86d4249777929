"""What stops a requirement for a while: holds, incidents, retried steps, leftovers."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.model.plan import RequirementRef

RELEASE = "release"
"""The signal that tells a workflow of the gate's new gate_version."""

APPLY_PREEMPTION = "apply_preemption"
"""The signal that tells a workflow that a P0 or a pause suspends its running agents."""

OPENING = "opening"
"""The boundary at which a host would take the requirement, and its work would begin."""

TURN = "turn"
"""The signal that tells a workflow that it may be its turn to deliver."""

PRE_EMPTION = "running agents"
"""The boundary at which running agents are suspended."""

REPAIRED = "repaired"
"""The signal that tells a workflow that a dependency is there again."""


@dataclass(frozen=True)
class Hold:
    """Why nothing was started at a boundary, and what must come before it is tried again.

    `by` are requirements, open P0s or blockers of its own or those that deliver before it, pauses
    by their names, or a dependency that is away. `gate_version` rises whenever one of the former
    may be over: only a higher one than the hold's is worth another try. A `dependency` is tried
    again when it is said to be repaired. An `account` that cannot work, or a `budget` without room,
    by its scope, holds until `until`, or until a human has seen to it.
    """

    boundary: str
    by: tuple[str, ...]
    reason: str
    gate_version: int
    since: datetime
    dependency: str = ""
    account: str = ""
    until: datetime | None = None
    budget: str = ""

    @property
    def is_apart(self) -> bool:
        """Whether it holds this boundary alone, and others may pass theirs."""
        return bool(self.account or self.budget)


@dataclass(frozen=True)
class Held:
    """A hold by a dependency that is over: it becomes a row now that there is a database again."""

    ref: RequirementRef
    hold: Hold
    workflow_id: str


@dataclass(frozen=True)
class Notification:
    """Tells workflows that wait at the gate that it may be open again.

    `turns` are the workflows whose turn to deliver it is.
    """

    workflow_ids: tuple[str, ...]
    gate_version: int
    turns: tuple[str, ...] = ()


# --- incidents of the infrastructure --------------------------------------------------------------


class AlertKind(StrEnum):
    """What Sasha knows how to repair; `pipeline/runbook.py` says how."""

    NATS_DOWN = "nats_down"
    STREAMS_AMISS = "streams_amiss"
    DATABASE_DOWN = "database_down"
    MIGRATIONS_BEHIND = "migrations_behind"
    PROGRAM_BEHIND = "program_behind"
    ROW_WITHOUT_WORKFLOW = "row_without_workflow"
    DISK_LOW = "disk_low"
    HOST_OVERLOADED = "host_overloaded"
    RUN_NEAR_DEADLINE = "run_near_deadline"
    ORPHAN = "orphan"
    WORKFLOW_FAULT = "workflow_fault"


DEPENDENCIES = {"NATS": "nats", "SDLC database": "database"}
"""The dependencies that pause everything while they are down: the name in errors, the component."""

DISK = "disk"
"""The component that pauses only its own host, while the disk has no room."""

_DISK_OF = "disk of "


def disk_of(host: str) -> str:
    """The disk of that host's state directory, as the name of a dependency."""
    return f"{_DISK_OF}{host}"


def component_of(dependency: str) -> str:
    """The component behind a dependency; empty for a dependency that pauses nobody."""
    return DISK if dependency.startswith(_DISK_OF) else DEPENDENCIES.get(dependency, "")


def place_of(dependency: str) -> str:
    """The host that a dependency belongs to; empty for one of the cluster."""
    return dependency.removeprefix(_DISK_OF) if component_of(dependency) == DISK else ""


@dataclass(frozen=True)
class SashaCall:
    """Asks Sasha to look at the cluster and at `host`, if one is named.

    The workflow `caller` is notified when the `dependency` that it waits for is back. `ended` is
    a P0 for a component; if a human has `given_up`, the trouble is left alone for a while.
    """

    host: str
    dependency: str = ""
    caller: str = ""
    ended: str = ""
    given_up: bool = False


@dataclass(frozen=True)
class Alert:
    """Something that a look has found wrong.

    `component` is the failing part, as in `REQ-INFRA-<component>-<n>`: `nats`, `database`, `disk`.
    `subject` tells two alerts of a kind apart (a run id, a number, a path). Kind and subject stay
    the same for as long as the trouble lasts; `detail` may change.
    """

    kind: AlertKind
    component: str
    subject: str = ""
    detail: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """Identifies the trouble in later looks: it is over when no alert has this key."""
        return (str(self.kind), self.subject)


class IncidentEnd(StrEnum):
    """How an incident ended for Sasha."""

    PASSED = "passed"
    """It was over before anything was done."""
    REPAIRED = "repaired"
    ESCALATED = "escalated"
    """Every attempt failed: a P0 asks a human."""
    LEFT = "left"
    """Every attempt failed and it pauses nobody, or no worker was there to attempt anything."""


@dataclass(frozen=True)
class Incident:
    """An alert, what was done about it, and how that ended.

    `place` is a host, or empty for the cluster; `actions` describes each attempt; `requirement` is
    the P0 that an escalated one has opened.
    """

    incident_id: str
    place: str
    alert: Alert
    end: IncidentEnd
    actions: tuple[str, ...]
    began_at: datetime
    ended_at: datetime
    requirement: str = ""


@dataclass(frozen=True)
class Watch:
    """Asks a place to look, for `patience`, until the alert is gone."""

    alert: Alert
    patience: timedelta


@dataclass(frozen=True)
class Waiting:
    """Workflows, by their ids, that wait until a dependency is back."""

    dependency: str
    callers: tuple[str, ...]


@dataclass(frozen=True)
class SashaState:
    """What Sasha knows when she starts: her count of incidents, and what is not over.

    `escalated` maps keys, with the place in front, to the P0 that is open for each; `unrecorded`
    incidents have no row yet; `numbers` are the latest n of each component's P0s; `left` says from
    when on a key is repaired again.
    """

    incidents: int = 0
    escalated: tuple[tuple[tuple[str, str, str], str], ...] = ()
    waiting: tuple[Waiting, ...] = ()
    unrecorded: tuple[Incident, ...] = ()
    numbers: tuple[tuple[str, int], ...] = ()
    left: tuple[tuple[tuple[str, str, str], datetime], ...] = ()


@dataclass(frozen=True)
class RemediationStatus:
    """An alert that Sasha repairs now; `actions` describes each attempt so far."""

    place: str
    alert: Alert
    began_at: datetime
    actions: tuple[str, ...]


@dataclass(frozen=True)
class SashaStatus:
    """What Sasha does now: her cases, who waits for what, and the P0s that she has opened."""

    remediations: tuple[RemediationStatus, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    escalated: tuple[str, ...] = ()


@dataclass(frozen=True)
class InfrastructureOrder:
    """A component that could not be repaired: what its P0 requirement asks and looks at.

    `is_open` says that an earlier run of its workflow has asked already.
    """

    number: str
    place: str
    alert: Alert
    actions: tuple[str, ...]
    is_open: bool = False


@dataclass(frozen=True)
class InfrastructureOpening:
    """Asks for the rows of such a requirement."""

    ref: RequirementRef
    order: InfrastructureOrder


# --- retried steps, and what an ended requirement left behind -------------------------------------

RETRY_BOUND = timedelta(minutes=10)
"""How long an activity may keep failing before a human is asked (design, section 3).

Only failing counts: neither the work between two failures of different steps, nor a lost worker.
What has happened already waits for the database and NATS without one (`activities.persistence`).
"""


@dataclass(frozen=True)
class Retry:
    """A step of an activity that failed and is tried again, or waits to be."""

    workflow_id: str
    activity_id: str
    host: str
    step: str
    since: datetime
    """The first failure in a row."""
    tries: int
    """How often it has failed since."""
    error: str
    last_at: datetime

    @property
    def number(self) -> str:
        """The requirement, or fix, that waits for it."""
        return self.workflow_id.partition("/")[0]


@dataclass(frozen=True)
class Leftover:
    """What could not be cleaned up when its requirement ended; its host continues trying."""

    ref: RequirementRef
    reason: str
    tries: int
