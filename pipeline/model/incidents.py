"""What is wrong with the infrastructure, and what was done about it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.model.references import RequirementRef


class SymptomKind(StrEnum):
    """What Sasha knows how to treat; `pipeline/remedies.py` says how."""

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
"""What holds everybody while it is away, by the name in its error, and its component."""

DISK = "disk"
"""The component that holds what its own host does while it has no room."""

_DISK_OF = "disk of "


def disk_of(host: str) -> str:
    """The disk of that host's state directory, as the name of a dependency."""
    return f"{_DISK_OF}{host}"


def component_of(dependency: str) -> str:
    """The component behind a dependency; empty for one that nobody is held by."""
    return DISK if dependency.startswith(_DISK_OF) else DEPENDENCIES.get(dependency, "")


def place_of(dependency: str) -> str:
    """The host that a dependency belongs to; empty for one of the house."""
    return dependency.removeprefix(_DISK_OF) if component_of(dependency) == DISK else ""


@dataclass(frozen=True)
class SashaCall:
    """Asks Sasha to look at the house and at that host; empty: at no host.

    A `caller`, a workflow, is told when the `dependency` that it waits for is there again. A
    requirement that has `ended` stands for a component no longer; `given_up` by a human, its
    trouble is left alone for a while.
    """

    host: str
    dependency: str = ""
    caller: str = ""
    ended: str = ""
    given_up: bool = False


@dataclass(frozen=True)
class Symptom:
    """Something that a look has found wrong.

    `component` is what is ill, as it stands in `REQ-INFRA-<component>-<n>`: `nats`, `database`,
    `disk`, …; `subject` tells two symptoms of a kind apart (a run id, a number, a path). Kind and
    subject are the same as long as it is the same trouble, while `detail` may change.
    """

    kind: SymptomKind
    component: str
    subject: str = ""
    detail: str = ""

    @property
    def key(self) -> tuple[str, str]:
        """What a later look is compared by: the trouble is over when no symptom has this key."""
        return (str(self.kind), self.subject)


class IncidentEnd(StrEnum):
    """How an incident ended for Sasha."""

    PASSED = "passed"
    """It was over before she did anything."""
    REPAIRED = "repaired"
    ESCALATED = "escalated"
    """Every attempt failed: a P0 stands for it and asks a human."""
    LEFT = "left"
    """Every attempt failed and it holds nobody, or nobody was there to attempt anything."""


@dataclass(frozen=True)
class Incident:
    """A symptom, what was done about it, and how that ended.

    `place` is a host, or empty for the house; `actions` tells of each attempt; `requirement` is the
    P0 that an escalated one has opened.
    """

    incident_id: str
    place: str
    symptom: Symptom
    end: IncidentEnd
    actions: tuple[str, ...]
    began_at: datetime
    ended_at: datetime
    requirement: str = ""


@dataclass(frozen=True)
class Watch:
    """Asks whoever looks after a place to look, for that long, until the symptom is gone."""

    symptom: Symptom
    patience: timedelta


@dataclass(frozen=True)
class Waiting:
    """Workflows, by their ids, that wait until a dependency is there again."""

    dependency: str
    callers: tuple[str, ...]


@dataclass(frozen=True)
class SashaState:
    """What Sasha knows when she begins: her own count of incidents, and what is not over.

    `escalated` are symptoms' keys with the place before, and the requirement that stands for each;
    `unrecorded` have no row yet; `numbers` are the latest n of each component's P0s; `left` says
    when a key may be treated anew.
    """

    incidents: int = 0
    escalated: tuple[tuple[tuple[str, str, str], str], ...] = ()
    waiting: tuple[Waiting, ...] = ()
    unrecorded: tuple[Incident, ...] = ()
    numbers: tuple[tuple[str, int], ...] = ()
    left: tuple[tuple[tuple[str, str, str], datetime], ...] = ()


@dataclass(frozen=True)
class CaseStanding:
    """A symptom that Sasha treats now; `actions` tells of each attempt so far."""

    place: str
    symptom: Symptom
    began_at: datetime
    actions: tuple[str, ...]


@dataclass(frozen=True)
class SashaStanding:
    """What Sasha does now: her cases, who waits for what, who stands for the unrepaired.

    `escalated` are numbers of requirements.
    """

    cases: tuple[CaseStanding, ...] = ()
    waiting: tuple[Waiting, ...] = ()
    escalated: tuple[str, ...] = ()


@dataclass(frozen=True)
class InfrastructureOrder:
    """A component that could not be repaired: what its P0 requirement asks and looks at.

    `is_open` says that an earlier run of its workflow has asked already.
    """

    number: str
    place: str
    symptom: Symptom
    actions: tuple[str, ...]
    is_open: bool = False


@dataclass(frozen=True)
class InfrastructureOpening:
    """Asks for the rows of such a requirement."""

    ref: RequirementRef
    order: InfrastructureOrder
