"""Holds: a requirement waits at a boundary until something elsewhere is over."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.model.references import RequirementRef

RELEASE = "release"
"""The signal that tells a workflow of the gate's new epoch."""

STAND_STILL = "stand_still"
"""The signal that tells a workflow that a P0 pre-empts its running agents."""

OPENING = "opening"
"""The boundary at which a host would take the requirement, and its work would begin."""

TURN = "turn"
"""The signal that tells a workflow that it may be its turn to deliver."""

PRE_EMPTION = "running agents"
"""The boundary at which agents stand still that run already."""

REPAIRED = "repaired"
"""The signal that tells a workflow that a dependency is there again."""


@dataclass(frozen=True)
class Hold:
    """Why nothing was started at a boundary, and what must come before it is tried again.

    `by` are requirements, open P0s or blockers of its own or those that deliver before it, or a
    dependency that is away. The gate's
    `epoch` rises whenever one of the former may be over: only a higher one than the hold's is worth
    another try. A `dependency` is tried again when it is said to be repaired.
    """

    boundary: str
    by: tuple[str, ...]
    reason: str
    epoch: int
    since: datetime
    dependency: str = ""


@dataclass(frozen=True)
class Held:
    """A hold by a dependency that is over: it becomes a row now that there is a database again."""

    ref: RequirementRef
    hold: Hold
    workflow_id: str


@dataclass(frozen=True)
class Wake:
    """Tells workflows that wait at the gate that it may be open again.

    `turns` are the workflows whose turn to deliver it is.
    """

    workflow_ids: tuple[str, ...]
    epoch: int
    turns: tuple[str, ...] = ()
