"""What a delivery asks, and how it ended."""

from dataclasses import dataclass
from enum import StrEnum

from pipeline.model.failures import Failure
from pipeline.model.holds import Hold
from pipeline.model.references import Head, RequirementRef


@dataclass(frozen=True)
class DeliveryRequest:
    """Asks a host to move the target branch to the verified commit."""

    ref: RequirementRef
    head: Head | None
    target_branch: str
    attempt: int
    builders: tuple[tuple[str, str], ...] = ()
    """The plan's builds and their agents: whose files a conflict is in decides who owns it."""
    held: Hold | None = None
    """The hold by a dependency that is over with this try."""


class DeliveryState(StrEnum):
    """How a try to deliver ended."""

    DELIVERED = "delivered"
    MOVED = "moved"
    REFUSED = "refused"
    HELD = "held"


@dataclass(frozen=True)
class DeliveryOutcome:
    """`moved`: the target was merged into `head`, which must be verified before the next try."""

    state: DeliveryState
    head: Head | None
    parallel: bool
    failure: Failure | None = None
    hold: Hold | None = None
    """Why nothing was moved yet."""
