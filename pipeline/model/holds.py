"""Holds: a requirement waits at a boundary until something elsewhere is over."""

from dataclasses import dataclass
from datetime import datetime

RELEASE = "release"
"""The signal that tells a workflow of the gate's new epoch."""


@dataclass(frozen=True)
class Hold:
    """Why nothing was started at a boundary, and what must come before it is tried again.

    `by` are requirements: open P0s, or blockers of its own. The gate's `epoch` rises whenever one
    of them may be over: only a higher one than the hold's is worth another try.
    """

    boundary: str
    by: tuple[str, ...]
    reason: str
    epoch: int
    since: datetime


@dataclass(frozen=True)
class Wake:
    """Tells workflows that wait at the gate that it may be open again."""

    workflow_ids: tuple[str, ...]
    epoch: int
