"""What a delivery asks, and how it ended."""

from dataclasses import dataclass
from enum import StrEnum

from pipeline.model.failures import Failure
from pipeline.model.holds import Hold
from pipeline.model.references import Head, RequirementRef


@dataclass(frozen=True)
class Turn:
    """Where a requirement stands in the line of those that deliver to one branch.

    `behind` is whoever stands right before it, `delivering` whoever has the turn; empty: nobody.
    `is_held`: a P0 was opened, or a blocker added, while it stood in line.
    """

    target_branch: str
    place: int
    behind: str
    delivering: str
    is_held: bool = False

    @property
    def text(self) -> str:
        """The place and whom it waits for, as a sentence for people."""
        said = f"{_ordinal(self.place)} in line"
        if self.behind:
            said += f", behind {self.behind}"
        if self.delivering and self.delivering == self.behind:
            said += ", which is delivering"
        elif self.delivering:
            said += f"; {self.delivering} is delivering"
        if self.is_held:
            said += "; an open P0 or a blocker comes first"
        return f"It waits for its turn to deliver to {self.target_branch}: {said}."


def _ordinal(place: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{'th' if place % 100 in (11, 12, 13) else ending}"


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

    READY = "ready"
    DELIVERED = "delivered"
    MOVED = "moved"
    REFUSED = "refused"
    HELD = "held"


@dataclass(frozen=True)
class DeliveryOutcome:
    """How asking for the turn, or a try to deliver, ended.

    `ready`: it is the requirement's turn, and `head` holds the target. `moved`: the target was
    merged into `head`, which must be verified before the next try.
    """

    state: DeliveryState
    head: Head | None
    parallel: bool
    failure: Failure | None = None
    hold: Hold | None = None
    """Why nothing was moved yet."""
    is_foreign: bool = True
    """Whether somebody else has moved the target, not a delivery of ours."""
    left: str = ""
    """Why not everything could be cleaned up, although it is delivered."""
