"""How a host takes a requirement, or a fix."""

from dataclasses import dataclass

from pipeline.model.holds import Hold
from pipeline.model.plan import Pipeline
from pipeline.model.references import Head, RequirementRef


@dataclass(frozen=True)
class FixBase:
    """The host that a fix runs on, and the integration tip of its requirement."""

    host: str
    head: Head | None


@dataclass(frozen=True)
class OpeningRequest:
    """Asks a host to take a requirement."""

    ref: RequirementRef
    pipeline: Pipeline
    sequential: bool
    fix: FixBase | None = None
    needs_room: bool = True
    """A P0 is taken at once, whatever runs."""


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
