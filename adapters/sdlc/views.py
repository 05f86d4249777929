"""What the SDLC database says of requirements, as plain frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pipeline.budgets import Budget
from pipeline.model import (
    NO_COST,
    AlertKind,
    Ask,
    Cost,
    Delivered,
    FailureKind,
    IncidentEnd,
    Mode,
    Priority,
    RequirementState,
    RunEnd,
    StageState,
    Turn,
)
from pipeline.pauses import Pause


@dataclass(frozen=True)
class StageView:
    """A stage and its latest attempt; `starts` counts real starts over all attempts.

    `resumes` counts how often a session went on after it had been cut off, over all attempts.
    `remarks` name what the result leaves out, and work that lies elsewhere in the clone.
    """

    stage: str
    agent: str
    group: str
    state: StageState
    attempt: int
    starts: int
    started_at: datetime | None
    ended_at: datetime | None
    reason: str
    log_reference: str
    remarks: tuple[str, ...] = ()
    cost: Cost = NO_COST
    """What all attempts cost."""
    session: str = ""
    """The session of the latest attempt's program."""
    resumes: int = 0
    run_id: str | None = None
    """The latest attempt's run, once it is opened."""
    prepared: tuple[str, ...] = ()
    """The builds whose `prepare` ran, or runs, in the clone of the latest attempt."""
    prepare_started_at: datetime | None = None
    prepare_ended_at: datetime | None = None

    @property
    def is_preparing(self) -> bool:
        """Whether its agent has not started yet, since its clone is still being prepared."""
        is_begun = self.prepare_started_at is not None and self.prepare_ended_at is None
        return is_begun and self.state is StageState.RUNNING


@dataclass(frozen=True)
class GateView:
    """A check on a commit: `verdict` is green or red.

    Of a build: `tree` names the files that were built, `clean` says whether their checkout was made
    again, `steps` what ran (`name`, `argv`, `seconds`); None and empty for other gates.
    """

    gate: str
    stage: str
    commit: str
    verdict: str
    started_at: datetime | None
    ended_at: datetime | None
    log_reference: str
    tree: str
    clean: bool | None
    steps: tuple[Mapping[str, object], ...]


@dataclass(frozen=True)
class BuildView:
    """A build that is under way: whose it is, of which commit, and since when."""

    number: str
    build: str
    stage: str
    agent: str
    commit: str
    started_at: datetime


@dataclass(frozen=True)
class PreparingView:
    """A stage whose clone is being prepared, since when."""

    number: str
    stage: str
    since: datetime


@dataclass(frozen=True)
class FailureView:
    """A reported failure; open until `resolved_at`."""

    round: int
    stage: str
    kind: FailureKind
    gate: str
    owners: tuple[str, ...]
    severity: int
    error: str
    log_reference: str
    commit: str
    created_at: datetime
    resolved_at: datetime | None


@dataclass(frozen=True)
class FixView:
    """A fix of a requirement: `parent` is that, or the fix that did not succeed."""

    number: str
    parent: str
    depth: int
    assignee: str
    gate: str
    state: RequirementState
    reason: str
    created_at: datetime
    ended_at: datetime | None
    cost: Cost = NO_COST


@dataclass(frozen=True)
class EscalationView:
    """A question to a human; open until `answered_at`.

    `answers` are words of the command line without the requirement's number.
    """

    escalation: int
    round: int
    asks: tuple[Ask, ...]
    answers: tuple[str, ...]
    created_at: datetime
    reminders: int
    answered_at: datetime | None
    answer: str
    who: str
    note: str


@dataclass(frozen=True)
class HoldView:
    """A boundary at which a requirement waits, and for whom; `ended_at` once it continues."""

    boundary: str
    held_by: tuple[str, ...]
    reason: str
    since: datetime
    ended_at: datetime | None
    account: str | None = None
    """The account that cannot work, if it is one that holds."""
    until: datetime | None = None
    """When it is tried again, if that is known."""
    budget: str | None = None
    """The budget without room, by its scope, if it is one that holds."""

    @property
    def needs_human(self) -> bool:
        """Whether it ends only once a human has seen to an account or a budget."""
        return bool(self.account or self.budget) and self.until is None


@dataclass(frozen=True)
class HeldStageView:
    """A stage that waits for an account."""

    number: str
    stage: str
    since: datetime


@dataclass(frozen=True)
class AccountView:
    """An account that cannot work now, in its program's words, and who waits for it.

    It is tried again at `until`, now by the run `trying`, or once a human has said so.
    """

    account: str
    words: str
    since: datetime
    until: datetime | None
    needs_human: bool
    trying: str | None
    held: tuple[HeldStageView, ...]


@dataclass(frozen=True)
class RetryView:
    """A step that failed and is tried again; `number` is whose, a fix's for instance."""

    number: str
    host: str
    step: str
    since: datetime
    tries: int
    error: str
    last_at: datetime


@dataclass(frozen=True)
class LeftoverView:
    """What an ended requirement left on its host: its latest error, until `cleaned_at`."""

    number: str
    host: str
    reason: str
    created_at: datetime
    tries: int
    cleaned_at: datetime | None


@dataclass(frozen=True)
class MoveView:
    """A move from a `lost` host; what was left there is removed at `cleaned_at`, if it is back."""

    lost: str
    host: str
    head_commit: str | None
    at: datetime
    cleaned_at: datetime | None


@dataclass(frozen=True)
class HolderView:
    """A requirement that another one waits for."""

    number: str
    state: RequirementState


@dataclass(frozen=True)
class QueuedView:
    """A stage that waits for a slot of its host: its `place` among those that do, the first is 1.

    The host's slots are None until its worker has told of them.
    """

    stage: str
    since: datetime
    host: str
    place: int
    waiting: int
    used: int | None
    slots: int | None
    configured: int | None
    why: str | None


@dataclass(frozen=True)
class IncidentView:
    """A fault of the infrastructure; `place` is a host, or empty for the cluster."""

    incident_id: str
    place: str
    kind: AlertKind
    component: str
    subject: str
    detail: str
    diagnosis: str
    actions: tuple[str, ...]
    end: IncidentEnd
    requirement: str
    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True)
class RequirementSummary:
    """What every view of a requirement holds; a fix has a parent and an assignee."""

    number: str
    title: str
    priority: Priority
    state: RequirementState
    pipeline: str
    mode: Mode
    round: int
    host: str | None
    parent: str | None
    assignee: str | None
    reason: str
    waiting_for: str
    created_at: datetime
    started_at: datetime | None
    updated_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True)
class ListedRequirement(RequirementSummary):
    """A requirement as one line of a list; `asks` is what a human is asked now.

    `held_by` are those that hold it at some boundary, also if it waits for others as well;
    `queued` are its stages that wait for a slot, `retries` its steps that fail now and are tried
    again.
    """

    waiting_since: datetime | None
    held_by: tuple[str, ...]
    asks: tuple[Ask, ...]
    queued: tuple[QueuedView, ...] = ()
    retries: tuple[RetryView, ...] = ()
    turn: Turn | None = None
    """Its place among those that wait to deliver to its target, as of now."""
    cost: Cost = NO_COST
    """Of its own runs and those of its fixes; of a fix its own."""
    building: tuple[BuildView, ...] = ()
    """Its builds that are under way."""
    preparing: tuple[PreparingView, ...] = ()
    """Its stages whose clones are being prepared."""
    pauses: tuple[Pause, ...] = ()
    """What a human keeps it from, that of everything included."""
    project: str = ""
    """The path of the repository that it was started for, on the machine of its start."""


@dataclass(frozen=True)
class RequirementView(RequirementSummary):
    """A requirement with everything that its status shows.

    `failures`, `holds` and `escalation` are the open ones; `fixes` are all, those of fixes
    included, in the order of their creation. `holders` are the requirements of open holds.
    """

    description: str
    workflow_run: str | None
    base_commit: str | None
    head_commit: str | None
    target_branch: str | None
    stages: tuple[StageView, ...]
    gates: tuple[GateView, ...]
    failures: tuple[FailureView, ...]
    fixes: tuple[FixView, ...]
    holds: tuple[HoldView, ...]
    escalation: EscalationView | None
    past_holds: tuple[HoldView, ...] = ()
    holders: tuple[HolderView, ...] = ()
    queued: tuple[QueuedView, ...] = ()
    retries: tuple[RetryView, ...] = ()
    leftover: LeftoverView | None = None
    moves: tuple[MoveView, ...] = ()
    """From hosts that were lost, in order."""
    turn: Turn | None = None
    """Its place among those that wait to deliver to its target, as of now."""
    delivery: Delivered | None = None
    """What has become of its work; None unless it is delivered."""
    cost: Cost = NO_COST
    """Of its own runs and those of its fixes."""
    budgets: tuple[Budget, ...] = ()
    """Those that its runs count in: its own, and that of the day."""
    building: tuple[BuildView, ...] = ()
    """Its builds that are under way."""
    pauses: tuple[Pause, ...] = ()
    """What a human keeps it from, that of everything included."""
    project: str = ""
    """The path of the repository that it was started for, on the machine of its start."""

    @property
    def is_out_of_budget(self) -> bool:
        """Whether its own budget holds its fixes, and none of its agents runs any more."""
        is_asked = any(
            each.is_asked and each.is_spent and not each.is_of_day for each in self.budgets
        )
        states = [fix.state for fix in self.fixes if not fix.state.is_final]
        are_held = bool(states) and all(state is RequirementState.HELD for state in states)
        is_running = any(stage.state is StageState.RUNNING for stage in self.stages)
        return is_asked and are_held and not is_running


@dataclass(frozen=True)
class RunView:
    """One attempt of one stage, and what it cost."""

    run_id: str
    stage: str
    agent: str
    attempt: int
    state: StageState
    starts: int
    resumes: int
    opened_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    closed_at: datetime | None
    end: RunEnd | None
    exit_code: int | None
    verdict: str
    notice: Mapping[str, object] | None
    """The accepted answer, as it came."""
    summary: str
    remarks: tuple[str, ...]
    error: str
    base_commit: str | None
    commit: str | None
    head_commit: str | None
    log_reference: str
    host: str | None
    session: str
    ending: str
    asked_again: int
    seconds: float | None
    cost: Cost


@dataclass(frozen=True)
class CostLine:
    """What some runs cost together; `key` names what they have in common."""

    key: str
    runs: int
    seconds: float
    cost: Cost


@dataclass(frozen=True)
class PhaseView:
    """A phase change of the requirement (`stage` empty) or of a stage."""

    stage: str
    source: str | None
    target: str
    at: datetime
    who: str
    why: str


@dataclass(frozen=True)
class NoteView:
    """A human's answer."""

    answer: int
    round: int
    kind: str
    stages: tuple[str, ...]
    who: str
    why: str
    at: datetime


@dataclass(frozen=True)
class EventView:
    """An event as it was or will be published."""

    id: int
    event_id: str
    number: str
    type: str
    subject: str
    payload: Mapping[str, object]
    created_at: datetime
    published_at: datetime | None


@dataclass(frozen=True)
class PerformanceView:
    """Measured seconds; `percentage_saved` is of the sequential time."""

    sequential_seconds: float
    parallel_seconds: float
    saved_seconds: float
    percentage_saved: float
    wall_seconds: float
    queue_seconds: float
    hold_seconds: float
    human_seconds: float
