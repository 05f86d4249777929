"""What a stage asks of its host, how it ended, and its state in the workflow."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pipeline.model.delivery import BuildResult
from pipeline.model.failures import Failure, FailureKind
from pipeline.model.holds import Hold
from pipeline.model.plan import Head, Mode, Priority, RequirementRef, Stage, StageState
from pipeline.model.reports import NO_COST, Cost
from pipeline.model.runs import RunEnd, RunResult, SlotRequest


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
    """Whether this attempt was given up after infrastructure had failed, and continues now."""

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
class Preparation:
    """How the `prepare` of builds ended in the clone of an agent that has not started yet.

    `build` is the one that failed, or else the last; `manifests` are the places, from the project's
    root and with wildcards, where what it installs may be named, and `has_manifest` says whether
    there is any.
    """

    build: str
    result: BuildResult
    manifests: tuple[str, ...] = ()
    has_manifest: bool = True

    @property
    def is_green(self) -> bool:
        """Only the exit code counts."""
        return self.result.end is RunEnd.EXITED and self.result.exit_code == 0


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
    reviewed: tuple[str, ...] = ()
    """Revisions of the implementers' work that it has seen, where another board has started it."""
    base: Head | None = None
    """The integration tip that its agent has started on: what its verdict is about."""
    resumes: bool = False
    """Whether this very attempt continues, after a retry or a hold: no agent is at fault, its run
    stands."""
    cost: Cost = NO_COST
    """What the run cost."""


@dataclass(frozen=True)
class ClosedRun:
    """What closing a run's row has brought: its cost, and whether somebody may be notified."""

    may_notify: bool
    cost: Cost


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
class HandingRun:
    """A run whose documents are handed on; `host` is where they lie."""

    run_id: str
    host: str
    whose: str
    """In words, for the one who reads them."""


@dataclass(frozen=True)
class FailureLog:
    """The log of a failure, by its gate and its path on the requirement's host."""

    gate: str
    path: str


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
    owners: Mapping[str, str] = field(default_factory=dict)
    """Who answers for each build of the plan, in its order."""
    handed: tuple[HandingRun, ...] = ()
    logs: tuple[FailureLog, ...] = ()
    continues: str = ""
    """Of a fix: the run of its own agent whose work it repairs."""
    most_usd: float | None = None
    """The dollars that the run may cost, if anything says so."""
    lost_on: str = ""
    """The lost host on which this very attempt was started; empty where it was not."""
    lost_result: RunResult | None = None
    """How it ended there with an answer, if that was recorded before the host was lost."""


# --- a stage's state in the workflow --------------------------------------------------------------

INFRASTRUCTURE_LOSSES = 3
"""Losses in a row after which a stage blocks (design, section 1)."""


@dataclass
class StageEntry:
    """The state of one stage in the workflow.

    `tries` counts unanswered runs, `losses` those of infrastructure in a row, `extended_minutes`
    belong to the current attempt; `fixes` are those merged on the stage's behalf. An attempt that
    `resumes` was given up because of infrastructure: the next one is the same.

    A verdict has seen the revisions of the implementers' work that stood when it was asked for
    (`reviewed`), and whatever was merged by the integration tip that its agent has started on
    (`base`): it may have waited for a slot in between. Until that is known `base` is the tip when
    the attempt was first asked for. `merged` is the tip with the stage's latest work.
    """

    state: StageState = StageState.WAITING
    attempt: int = 0
    tries: int = 0
    losses: int = 0
    reason: str = ""
    summary: str = ""
    verdict: str = ""
    flags: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()
    reviewed: tuple[str, ...] = ()
    base: Head | None = None
    merged: Head | None = None
    extended_minutes: float = 0.0
    resumes: bool = False
    cost: Cost = NO_COST
    """What all its runs cost."""
    shown: str = ""
    """What it was shown to do last, since when, and how long it has been shown to run before."""
    since: datetime | None = None
    worked: timedelta = timedelta()

    def revision(self, stage: str) -> str:
        """Names what of the stage is merged: `stage#attempt`, then the fixes."""
        return "+".join((f"{stage}#{self.attempt}", *self.fixes))

    def repeated_after(self, retries: int) -> tuple[FailureKind, ...]:
        """The failures of the next run after which another attempt follows at once.

        Source: design, section 1: `retries` apply to a run without a valid notice; infrastructure
        losses never count as a try. A run that died while it was suspended, or whose account could
        not work, owes nothing.
        """
        free = [kind for kind in FailureKind if kind.is_free]
        if self.losses + 1 < INFRASTRUCTURE_LOSSES:
            free.append(FailureKind.INFRASTRUCTURE)
        unanswered = [kind for kind in FailureKind if kind.is_unanswered]
        return (*free, *unanswered) if self.tries < retries else tuple(free)

    def count(self, kind: FailureKind | None) -> None:
        """Count how a run ended; None is an end without a failure."""
        if kind and kind.is_free:
            return
        self.losses = self.losses + 1 if kind is FailureKind.INFRASTRUCTURE else 0
        self.tries += bool(kind and kind.is_unanswered)


# --- the status of a requirement ------------------------------------------------------------------


@dataclass(frozen=True)
class WorkSnapshot:
    """The entry of every stage by its name, and the integration tip."""

    head: Head | None
    entries: Mapping[str, StageEntry]
