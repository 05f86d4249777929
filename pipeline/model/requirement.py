"""A requirement's workflow: its input, the host that takes it, its end."""

from dataclasses import dataclass
from datetime import timedelta

from pipeline.model.answers import ORCHESTRATOR
from pipeline.model.carried import Carried
from pipeline.model.failures import Failure
from pipeline.model.opening import FixBase
from pipeline.model.plan import Pipeline
from pipeline.model.references import RequirementRef
from pipeline.model.states import Priority, RequirementState


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
    """Whether agents of lower priority that run stand still until it has ended; a P0 alone may."""
    fix: FixBase | None = None
    """Where the work starts, for a fix: it runs its one stage and delivers nothing."""
    carried: Carried | None = None
    """Where the run before has stood; None for the first one."""


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


@dataclass(frozen=True)
class DeliveryReport:
    """Result of a requirement's workflow."""

    number: str
    state: RequirementState
    reason: str
    commit: str
    failures: tuple[Failure, ...] = ()
    verdict: str = ""
    """Of a fix: what its one stage answered, and the flags that it raised."""
    flags: tuple[str, ...] = ()
