"""The messages of the house: what travels between command line, workflow and activities.

Frozen standard-library dataclasses; small by construction (nothing over 64 KB through Temporal).
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum, StrEnum


class Priority(StrEnum):
    """P0 is catastrophic and stops the line; P4 is low."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"
    P4 = "P4"

    @property
    def rank(self) -> int:
        """0 for P0 to 4 for P4: lower is served first."""
        return int(self.value[1])


class RequirementState(StrEnum):
    """Where a requirement stands."""

    ACCEPTED = "ACCEPTED"
    RUNNING = "RUNNING"
    HELD = "HELD"
    BLOCKED = "BLOCKED"
    DELIVERED = "DELIVERED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_final(self) -> bool:
        """Whether the requirement has ended."""
        return self in (self.DELIVERED, self.FAILED, self.CANCELLED)


class StageState(StrEnum):
    """Where a stage of a requirement stands."""

    WAITING = "waiting"
    HELD = "held"
    RUNNING = "running"
    COMPLETED = "completed"
    SKIPPED = "skipped"
    FAILED = "failed"
    BLOCKED = "blocked"

    @property
    def is_done(self) -> bool:
        """Whether what needs the stage may go on."""
        return self in (self.COMPLETED, self.SKIPPED)

    @property
    def is_red(self) -> bool:
        """Whether the stage stands in the way until a retry or an answer."""
        return self in (self.FAILED, self.BLOCKED)


class Mode(StrEnum):
    """How the stages of a requirement are dispatched."""

    PARALLEL = "parallel"
    SEQUENTIAL = "sequential"


# --- the plan -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Group:
    """Stages of one kind: reporting, and the barrier that stages without needs of their own use."""

    name: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Stage:
    """One agent's part of a requirement.

    `needs` are stage names with the barrier already spelt out; `minutes` are for the plan,
    `deadline` and `grace` bound the run; `flag` makes the stage conditional;
    `builds` are verified after this stage's merge.
    """

    name: str
    agent: str
    group: str
    needs: tuple[str, ...]
    minutes: float
    deadline: timedelta
    grace: timedelta
    retries: int = 0
    flag: str | None = None
    builds: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pipeline:
    """A checked plan: stages in the order of the file, which is a legal sequential order."""

    name: str
    groups: tuple[Group, ...]
    stages: tuple[Stage, ...]

    def stage(self, name: str) -> Stage:
        """The stage of that name. Raises: KeyError if there is none."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        raise KeyError(name)

    @property
    def builds(self) -> tuple[str, ...]:
        """The builds that some stage names, each once, in the order of the file."""
        return tuple(dict.fromkeys(build for stage in self.stages for build in stage.builds))


# --- the workflow's input and result ----------------------------------------------------------


@dataclass(frozen=True)
class RequirementOrder:
    """Input of a requirement's workflow. The description stays in the requirement's row."""

    number: str
    title: str
    priority: Priority
    pipeline: Pipeline
    sequential: bool
    heartbeat: timedelta | None
    """Silence after which a stage's activity counts as lost; None never (time-skipping server)."""
    search_attributes: tuple[str, ...] = ()
    """Names of the search attributes that the server knows and the workflow sets."""


@dataclass(frozen=True)
class Head:
    """The tip of a requirement's integration branch; `position` grows with every merge."""

    commit: str
    position: int


@dataclass(frozen=True)
class RequirementRef:
    """Which execution speaks: the number and the first run id of its workflow."""

    number: str
    workflow_run: str

    @property
    def key(self) -> str:
        """Prefix of every run id and event id of this execution."""
        return f"{self.number}/{self.workflow_run}"


@dataclass(frozen=True)
class OpeningRequest:
    """Asks a host to take a requirement."""

    ref: RequirementRef
    pipeline: Pipeline
    sequential: bool


@dataclass(frozen=True)
class Opening:
    """A host's answer: it took the requirement.

    `head` is None where no project is needed (every agent and build is simulated).
    """

    host: str
    head: Head | None
    target_branch: str
    parallel: bool


# --- stages -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageRequest:
    """Asks a host to run one attempt of one stage from one commit."""

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

    @property
    def run_id(self) -> str:
        """`REQ/workflow run/stage/attempt`."""
        return f"{self.ref.key}/{self.stage.name}/{self.attempt}"


class FailureKind(StrEnum):
    """What failed; it decides owner and whether a run is tried again."""

    CRASH = "crash"
    TIMEOUT = "timeout"
    NOTICE = "notice"
    FAILED = "failed"
    BLOCKED = "blocked"
    CRITIQUE = "critique"
    VERDICT = "verdict"
    BUILD = "build"
    CONFLICT = "conflict"
    DELIVERY = "delivery"
    INFRASTRUCTURE = "infrastructure"
    REFUSED = "refused"

    @property
    def is_unanswered(self) -> bool:
        """Whether the run ended without a valid notice: only then `retries` apply."""
        return self in (self.CRASH, self.TIMEOUT, self.NOTICE)


class Severity(IntEnum):
    """How bad it is; aggregation takes the maximum, so it only rises."""

    ERROR = 1
    CRITICAL = 2
    CATASTROPHIC = 3


@dataclass(frozen=True)
class Failure:
    """One failure with its owner: what a fix, a human or a report needs.

    `gate` names the check that is red (`build backend`, `verdict Backend QA`, …);
    `error` holds the first error lines, cut to 8,000 characters.
    """

    stage: str
    kind: FailureKind
    gate: str
    owners: tuple[str, ...]
    error: str
    severity: Severity = Severity.ERROR
    log_reference: str = ""
    commit: str = ""


@dataclass(frozen=True)
class StageOutcome:
    """How one attempt of a stage ended. `head` is the integration tip after its merge.

    `parallel` is the switch of the worker that ran it: the latest outcome decides.
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


@dataclass(frozen=True)
class StageSkip:
    """Records that a conditional stage was not needed."""

    ref: RequirementRef
    stage: Stage
    attempt: int
    reason: str


# --- builds, reports, delivery ------------------------------------------------------------------


@dataclass(frozen=True)
class BuildRequest:
    """Asks a host to verify one build on one commit; `occurrence` counts within the execution."""

    ref: RequirementRef
    build: str
    stage: str
    """The stage whose merge the build belongs to; `owner` is its agent."""
    owner: str
    head: Head | None
    occurrence: int

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


@dataclass(frozen=True)
class BlockedStage:
    """A stage that could not start because of what it needs."""

    stage: Stage
    attempt: int
    reason: str


@dataclass(frozen=True)
class FailureCollection:
    """All failures of a round, as they came in, for aggregation."""

    ref: RequirementRef
    round: int
    failures: tuple[Failure, ...]
    blocked: tuple[BlockedStage, ...] = ()


@dataclass(frozen=True)
class FailureReport:
    """All failures of a round as one document, worst first."""

    number: str
    round: int
    severity: Severity
    failures: tuple[Failure, ...]
    text: str


@dataclass(frozen=True)
class Reopening:
    """Records an answer: stages were reopened and the requirement goes on."""

    ref: RequirementRef
    occurrence: int
    """Counts the answers of the execution."""
    stages: tuple[str, ...]
    who: str
    why: str
    approved: tuple[str, ...] = ()
    """Stages whose verdict a human passed: they complete instead of running again."""


@dataclass(frozen=True)
class DeliveryRequest:
    """Asks a host to move the target branch to the verified commit."""

    ref: RequirementRef
    head: Head | None
    target_branch: str
    attempt: int


class DeliveryState(StrEnum):
    """How a try to deliver ended."""

    DELIVERED = "delivered"
    MOVED = "moved"
    REFUSED = "refused"


@dataclass(frozen=True)
class DeliveryOutcome:
    """`moved`: the target was merged into `head`, which must be verified before the next try."""

    state: DeliveryState
    head: Head | None
    parallel: bool
    failure: Failure | None = None


@dataclass(frozen=True)
class Closing:
    """Ends a requirement."""

    ref: RequirementRef
    state: RequirementState
    reason: str
    commit: str = ""
    who: str = "orchestrator"


@dataclass(frozen=True)
class DeliveryReport:
    """Result of a requirement's workflow."""

    number: str
    state: RequirementState
    reason: str
    commit: str
    failures: tuple[Failure, ...] = ()


# --- what a human may say -----------------------------------------------------------------------


class Answer(StrEnum):
    """Answers to a blocked requirement."""

    APPROVE = "approve"
    REQUEST_CHANGES = "request-changes"
    ABORT = "abort"


@dataclass(frozen=True)
class RetryRequest:
    """Reopens a stage and what depends on it; stage `deliver` tries the delivery again."""

    stage: str
    who: str
    note: str = ""


@dataclass(frozen=True)
class DecisionRequest:
    """A human's answer to a blocked requirement."""

    answer: Answer
    who: str
    note: str = ""


@dataclass(frozen=True)
class Reopened:
    """What an answer set in motion: the stages that wait to run again, in plan order."""

    stages: tuple[str, ...]


@dataclass(frozen=True)
class ExtensionRequest:
    """Moves the deadline of a running stage."""

    stage: str
    minutes: float
    who: str
    reason: str


@dataclass(frozen=True)
class Extension:
    """An accepted extension: `deadline` is the run's new one, all extensions so far included."""

    run_id: str
    ref: RequirementRef
    stage: str
    minutes: float
    deadline: timedelta
    who: str
    reason: str


# --- agent runs -----------------------------------------------------------------------------------


class RunEnd(StrEnum):
    """How the process of an agent or a build ended."""

    EXITED = "exited"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"
    LOST = "lost"
    NOT_STARTED = "not_started"


@dataclass(frozen=True)
class RunOrder:
    """What a host needs to start or find the run of an agent."""

    run_id: str
    number: str
    stage: str
    agent: str
    attempt: int
    minutes: float
    deadline: timedelta
    grace: timedelta
    priority: int
    remaining_minutes: float
    prompt: str
    worktree: str
    """Directory the agent works in; empty where no project is needed."""


@dataclass(frozen=True)
class RunResult:
    """How a run ended. `output` is the tail of its standard output, bounded.

    `starts` counts real starts of the agent: 0 or 1.
    """

    end: RunEnd
    exit_code: int | None
    output: str
    error_output: str
    started_at: datetime | None
    ended_at: datetime | None
    starts: int
    log_reference: str
    reason: str = ""


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


@dataclass(frozen=True)
class MergeResult:
    """What became of a stage's changes: merged at `head`, or in conflict over `conflicts`."""

    head: Head
    commit: str
    """The commit that holds the stage's own changes."""
    conflicts: tuple[str, ...] = ()


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
    failures: tuple[str, ...] = field(default=())
