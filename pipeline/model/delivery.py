"""What a build verification and a delivery ask for, and how they end."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pipeline.model.failures import Failure
from pipeline.model.holds import Hold
from pipeline.model.plan import Head, RequirementRef
from pipeline.model.runs import RunEnd


@dataclass(frozen=True)
class Proof:
    """A build that is green on a commit, and which revisions of the builders' work it holds.

    A `clean` one was made in a fresh checkout: a delivery stands on no other.
    """

    build: str
    commit: str
    held: tuple[str, ...]
    clean: bool


@dataclass(frozen=True)
class BuildRequest:
    """Asks a host to verify one build on one commit.

    `occurrence` names the verification within the execution. What is not asked to be `clean` may
    be built in a kept checkout, if the build is one that allows it.
    """

    ref: RequirementRef
    build: str
    stage: str
    """The stage whose merge the build belongs to; `owner` is its agent."""
    owner: str
    head: Head | None
    occurrence: str
    clean: bool
    held: Hold | None = None
    """The hold by a dependency that is over with this opening."""

    @property
    def commit(self) -> str:
        """The commit to build; empty where no project is needed."""
        return self.head.commit if self.head else ""

    @property
    def run_id(self) -> str:
        """Key of the evidence."""
        return f"{self.ref.key}/build {self.build}/{self.occurrence}"


@dataclass(frozen=True)
class BuildOutcome:
    """Evidence for one commit: the exit code decided."""

    build: str
    commit: str
    passed: bool
    parallel: bool
    clean: bool
    failure: Failure | None = None
    hold: Hold | None = None
    """Why nothing was built yet; such an outcome is no evidence."""


@dataclass(frozen=True)
class BuildStep:
    """One command of a build, `prepare` or `build`: what ran, and how long it took."""

    name: str
    argv: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class BuildResult:
    """How a build ended: `exit_code` 0 is green, whatever the output says.

    `tree` names the files that were built, `steps` say what ran; both are empty for a simulation.
    """

    end: RunEnd
    exit_code: int | None
    output: str
    started_at: datetime
    ended_at: datetime
    log_reference: str
    reason: str = ""
    tree: str = ""
    steps: tuple[BuildStep, ...] = ()


# --- deliveries -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """Where a requirement stands in the line of those that deliver to one branch.

    `behind` is the requirement right before it, `delivering` the one with the turn; else empty.
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
    title: str = ""
    """Of the requirement: a branch and a pull request are named after it."""


@dataclass(frozen=True)
class BranchOrder:
    """Asks for a branch of the requirement's own at the verified commit.

    It is pushed to `remote`, or if that is empty to the one that the target is pushed to.
    """

    number: str
    branch: str
    commit: str
    target: str
    remote: str
    needs_remote: bool
    """Whether it must be pushed; else a project without a remote keeps it."""


@dataclass(frozen=True)
class PullRequestOrder:
    """Asks for a pull request of a branch that was pushed; `attempt` counts tries to deliver."""

    number: str
    title: str
    branch: str
    target: str
    remote: str
    body: str
    attempt: int


@dataclass(frozen=True)
class Delivered:
    """What has become of delivered work.

    `branch` holds it from `before`, the target's commit that it stands on, to `commit`. It is the
    target itself, or a branch of its own that was pushed to `remote`, unless that is empty; `link`
    is what the command printed that made the pull request.
    """

    mode: str
    target: str
    branch: str
    before: str
    commit: str
    remote: str = ""
    link: str = ""

    @property
    def text(self) -> str:
        """It as a sentence for people."""
        if self.branch == self.target:
            return "Delivered."
        pushed = f"pushed to {self.remote}" if self.remote else "not pushed: there is no remote"
        request = f" Pull request: {self.link}" if self.link else ""
        return f"Delivered as the branch {self.branch}, {pushed}.{request}"


@dataclass(frozen=True)
class Undo:
    """What is taken back of a target: all that `number` brought from `before` to `commit`."""

    number: str
    title: str
    before: str
    commit: str


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
    delivered: Delivered | None = None
    """What has become of the work; None where there is none."""
