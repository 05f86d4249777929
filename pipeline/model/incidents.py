"""What is wrong with the infrastructure, and what was done about it."""

from dataclasses import dataclass
from enum import StrEnum


class SymptomKind(StrEnum):
    """What Sasha knows how to treat; `pipeline/remedies.py` says how."""

    NATS_DOWN = "nats_down"
    STREAMS_AMISS = "streams_amiss"
    DATABASE_DOWN = "database_down"
    MIGRATIONS_BEHIND = "migrations_behind"
    ROW_WITHOUT_WORKFLOW = "row_without_workflow"
    DISK_LOW = "disk_low"
    HOST_OVERLOADED = "host_overloaded"
    RUN_NEAR_DEADLINE = "run_near_deadline"
    ORPHAN = "orphan"


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
