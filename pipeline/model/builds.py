"""What a build verification asks, and its evidence."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.model.failures import Failure
from pipeline.model.holds import Hold
from pipeline.model.references import Head, RequirementRef
from pipeline.model.runs import RunEnd


@dataclass(frozen=True)
class Proof:
    """A build that is green on a commit, and the builders' marks that the commit holds."""

    build: str
    commit: str
    held: tuple[str, ...]


@dataclass(frozen=True)
class BuildRequest:
    """Asks a host to verify one build on one commit.

    `occurrence` names the verification within the execution.
    """

    ref: RequirementRef
    build: str
    stage: str
    """The stage whose merge the build belongs to; `owner` is its agent."""
    owner: str
    head: Head | None
    occurrence: str
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
    failure: Failure | None = None
    hold: Hold | None = None
    """Why nothing was built yet; such an outcome is no evidence."""


@dataclass(frozen=True)
class BuildResult:
    """How a build ended: `exit_code` 0 is green, whatever the output says."""

    end: RunEnd
    exit_code: int | None
    output: str
    started_at: datetime
    ended_at: datetime
    log_reference: str
    reason: str = ""
