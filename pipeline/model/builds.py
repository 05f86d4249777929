"""What a build verification asks, and its evidence."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.model.failures import Failure
from pipeline.model.holds import Hold
from pipeline.model.references import Head, RequirementRef
from pipeline.model.runs import RunEnd


@dataclass(frozen=True)
class Proof:
    """A build that is green on a commit, and the builders' marks that the commit holds.

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
