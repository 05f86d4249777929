"""What a stage asks of its host, and how it ended."""

from dataclasses import dataclass
from datetime import datetime

from pipeline.model.failures import Failure, FailureKind
from pipeline.model.holds import Hold
from pipeline.model.plan import Stage
from pipeline.model.references import Head, RequirementRef
from pipeline.model.runs import SlotRequest
from pipeline.model.states import Mode, Priority, StageState


@dataclass(frozen=True)
class StageRequest:
    """Asks a host to run one attempt of one stage.

    It starts on the integration tip of the moment when it has a slot, which is `head` or a later
    one; only an `exact` one starts on `head` itself. `head` is None where no project is needed.
    """

    ref: RequirementRef
    priority: Priority
    stage: Stage
    attempt: int
    head: Head | None
    remaining_minutes: float
    """Length of the longest path from the start of this stage to the end of the plan."""
    mode: Mode = Mode.PARALLEL
    staging_only: bool = False
    """Whether a deployment runs beside other work and may reach staging only."""
    again: str = ""
    """Why a stage that was done runs again; empty unless it may."""
    repeated_after: tuple[FailureKind, ...] = ()
    """Failures after which another attempt follows at once: what an event says of this one."""
    held: Hold | None = None
    """The hold by a dependency that is over with this opening."""
    in_group: bool = False
    """Whether its group has other stages."""
    exact: bool = False
    """Whether what was verified is `head`, and nothing later."""
    waits_since: datetime | None = None
    """Since when it waits for a slot; None if it does not."""
    resumed: bool = False
    """Whether this attempt was given up after infrastructure had failed, and goes on now."""

    @property
    def run_id(self) -> str:
        """`REQ/workflow run/stage/attempt`."""
        return f"{self.ref.key}/{self.stage.name}/{self.attempt}"

    @property
    def slot(self) -> SlotRequest:
        """The slot that it needs to start."""
        rank, minutes = self.priority.rank, self.remaining_minutes
        return SlotRequest(self.run_id, rank, minutes, self.waits_since)


@dataclass(frozen=True)
class StageOutcome:
    """How one attempt of a stage ended. `head` is the integration tip after its merge.

    `parallel` is the switch of the worker that ran it: the latest outcome decides. The state is
    `held` if something holds it, `waiting` if no slot is free: nothing was started then.
    """

    stage: str
    attempt: int
    state: StageState
    head: Head | None
    parallel: bool
    summary: str = ""
    verdict: str = ""
    flags: tuple[str, ...] = ()
    failure: Failure | None = None
    hold: Hold | None = None
    """Why nothing was started; the state is `held` then."""
    judged: tuple[str, ...] = ()
    """Marks of the implementers' work that it has seen, where another board has started it."""
    base: Head | None = None
    """The integration tip that its agent has started on: what its verdict is about."""
    resumes: bool = False
    """Whether a retry goes on with this very attempt: no agent is at fault, its run stands."""


@dataclass(frozen=True)
class StageSkip:
    """Records that a conditional stage was not needed."""

    ref: RequirementRef
    stage: Stage
    attempt: int
    reason: str
    again: str = ""
    """Why a stage that was done has been asked for again; empty unless it was."""


@dataclass(frozen=True)
class BlockedStage:
    """A stage that could not start because of what it needs."""

    stage: Stage
    attempt: int
    reason: str


@dataclass(frozen=True)
class MergeResult:
    """What became of a stage's changes: merged at `head`, or in conflict over `conflicts`."""

    head: Head
    commit: str
    """The commit that holds the stage's own changes."""
    conflicts: tuple[str, ...] = ()
    refusal: str = ""
    """Why git, or a rule of ours, refuses the agent's work; it is kept, nothing was merged."""
    changed: bool = True
    """Whether the stage has changed any file, or has merged something."""
    remarks: tuple[str, ...] = ()
    """What was left out or left elsewhere, by name: ignored files, other branches, stashes."""


@dataclass(frozen=True)
class Deliverable:
    """A completed upstream stage's notice, as handed to those who need it."""

    stage: str
    agent: str
    notice: str
    """The notice as JSON text."""


@dataclass(frozen=True)
class StageContext:
    """What the SDLC database knows that an agent must be told."""

    title: str
    description: str
    deliverables: tuple[Deliverable, ...] = ()
    required_fixes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()
    earlier: str = ""
    """The agent's own earlier notice for the same task, as JSON text."""
    repairs: str = ""
    """The requirement that a fix repairs."""
    tried: tuple[str, ...] = ()
    """What earlier fixes of the same gate did."""
    started_at: datetime | None = None
    """When the agent of this very attempt was started, if it was."""
    base_commit: str = ""
    """What it was started on then; empty without a project."""
