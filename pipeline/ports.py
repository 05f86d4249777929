"""What activities ask of the outside world. Adapters implement these; only the roots see both.

Every method is idempotent by the run id or execution key in its argument: activities repeat it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from pipeline.agents_file import AgentsFile
from pipeline.errors import ProjectMissing
from pipeline.events import Event
from pipeline.model import (
    BuildOutcome,
    BuildRequest,
    BuildResult,
    Closing,
    DeliveryRequest,
    Extension,
    ExtensionRequest,
    FailureCollection,
    FailureReport,
    FixMerge,
    FixMerged,
    FixOpening,
    Head,
    Held,
    Hold,
    Incident,
    InfrastructureOpening,
    MergeResult,
    Opening,
    OpeningRequest,
    Reminder,
    Reopening,
    Repair,
    RequirementRef,
    RunOrder,
    RunResult,
    SashaCall,
    Settlement,
    StageContext,
    StageOutcome,
    StageRequest,
    StageSkip,
    Symptom,
    Wake,
)
from pipeline.notice import Notice
from pipeline.rule_facts import RequirementFacts
from pipeline.savings import Savings

StartListener = Callable[[datetime], Awaitable[None]]
"""Is told when an agent was really started."""


class EventPublisher(Protocol):
    """Sends events to JetStream."""

    async def publish(self, events: Sequence[Event]) -> None:
        """Send in order and wait until the server has stored every one.

        Raises: DependencyUnavailable if any was not acknowledged.
        """


class SdlcStore(Protocol):
    """Writes of the SDLC database, one transaction each, events included.

    Raises, everywhere: DependencyUnavailable if the database cannot be reached,
    IllegalTransition for a phase change that the life cycle does not know.
    """

    async def description(self, number: str) -> str:
        """The text of a requirement. Raises: UnknownRequirement."""

    async def running_on(self, host: str, *, but: str) -> int:
        """How many requirements other than `but` the host has RUNNING."""

    async def open_requirement(self, request: OpeningRequest, opening: Opening) -> None:
        """ACCEPTED -> RUNNING, host and base recorded, `workflow.started`."""

    async def open_stage(self, request: StageRequest, waiter: str) -> StageContext | Hold:
        """Opens the run's row (`running`), `stage.started`; returns what the agent must be told.

        While something holds the requirement: a hold that `waiter`, a workflow, is woken from;
        `workflow.held`. A row that is open already is never held.
        """

    async def pass_delivery(self, request: DeliveryRequest, waiter: str) -> Hold | None:
        """A hold as of `open_stage`, or None: it may be delivered."""

    async def stand_still(self, ref: RequirementRef, waiter: str) -> Hold | None:
        """What the requirement's running agents must stand still for; None: they may go on.

        Raises: UnknownRequirement.
        """

    async def to_pre_empt(self) -> Sequence[str]:
        """Numbers of requirements and fixes whose agents have to stand still."""

    async def record_hold(self, held: Held) -> None:
        """A hold by a dependency that is over, and what is said of it; a repeat does nothing."""

    async def to_wake(self) -> Wake:
        """Everybody who is held and may go on."""

    async def start_run(self, run_id: str, at: datetime) -> None:
        """The run's agent was really started; a repeat changes nothing."""

    async def record_ends(self, number: str, results: Mapping[str, RunResult]) -> None:
        """How runs ended that no stage has closed, and what they cost."""

    async def close_stage(
        self,
        request: StageRequest,
        outcome: StageOutcome,
        result: RunResult,
        notice: Notice | None,
        merge: MergeResult | None,
    ) -> None:
        """Closes the run's row: cost, gate, deliverable, events, the group if it is the last.

        Raises: StaleAttempt if a newer attempt of the stage is current.
        """

    async def skip_stage(self, skip: StageSkip) -> None:
        """`skipped` with its reason, `group.completed` if it closes the group."""

    async def record_build(
        self, request: BuildRequest, outcome: BuildOutcome, result: BuildResult
    ) -> None:
        """The gate's row and `build.passed` or `build.failed`."""

    async def open_build(self, request: BuildRequest, waiter: str) -> BuildOutcome | Hold | None:
        """The recorded outcome of that very verification; else a hold as of `open_stage`, or None.

        None: it is to be built.
        """

    async def block(self, collection: FailureCollection, report: FailureReport) -> None:
        """Failures, blocked stages, RUNNING -> BLOCKED, `workflow.blocked`, the escalation."""

    async def reopen(self, reopening: Reopening) -> None:
        """Stages back to waiting, blockers resolved, BLOCKED -> RUNNING, `workflow.resumed`."""

    async def open_fixes(self, opening: FixOpening) -> None:
        """Rows of fixes before their workflows, with parent and blocker links."""

    async def merge_fix(self, merge: FixMerge, merged: FixMerged) -> None:
        """The gate of a fix's merge, and its failure if it conflicts."""

    async def settle(self, settlement: Settlement) -> None:
        """What a round of fixes achieved: green gates resolve their failures and blockers.

        BLOCKED -> RUNNING and `workflow.resumed` if nothing is left.
        """

    async def attempts(self, number: str) -> Mapping[str, int]:
        """The latest attempt of every stage."""

    async def remind(self, reminder: Reminder) -> None:
        """Says an open question to a human again: `escalation.reminder`."""

    async def extend(self, extension: Extension) -> None:
        """The row of an extended deadline, one per run and deadline."""

    async def savings(self, number: str) -> Savings:
        """What running in parallel saved, from the recorded intervals of agents and builds."""

    async def close_requirement(self, closing: Closing) -> None:
        """The final state, its event and `workflow.performance` from the recorded intervals."""

    async def record_incident(self, incident: Incident) -> None:
        """The row of an incident that is over for Sasha; a repeat does nothing."""

    async def open_infrastructure(self, opening: InfrastructureOpening) -> None:
        """A P0 requirement without stages, BLOCKED until a human or a look ends it.

        Raises: AlreadyStarted if the number is taken.
        """

    async def publish_pending(self, number: str, publisher: EventPublisher) -> int:
        """Publishes committed, unpublished events in order under the requirement's lock.

        Returns how many went out. Raises: DependencyUnavailable if NATS refused one.
        """

    async def numbers_with_pending_events(self) -> Sequence[str]:
        """Requirements that have unpublished events."""


class Waker(Protocol):
    """Tells workflows what happens at the gate."""

    async def pre_empt(self, workflow_ids: Sequence[str]) -> None:
        """Tell each that its agents have to stand still; one that has ended needs none.

        Raises: DependencyUnavailable.
        """

    async def wake(self, wake: Wake) -> None:
        """Tell each of them the new epoch; one that has ended needs none.

        Raises: DependencyUnavailable.
        """


class Sasha(Protocol):
    """Whoever looks after the infrastructure."""

    async def call(self, call: SashaCall) -> None:
        """Ask for a look; she is started if she was not yet. Raises: DependencyUnavailable."""

    async def tell(self, repair: Repair) -> None:
        """Tell workflows of a repair; one that has ended needs none.

        Raises: DependencyUnavailable.
        """


class AgentRuns(Protocol):
    """The agents of this host."""

    async def is_started(self, run_id: str) -> bool:
        """Whether the run's agent was started once: then it is never started again."""

    async def attach(self, order: RunOrder, on_start: StartListener) -> RunResult:
        """Find the run, starting it only if it was never started, and wait for its end.

        `on_start` is awaited once if the run is found living. Cancelled, it leaves the agent alone.

        Raises: DependencyUnavailable instead of starting it; one that was started is attached to.
        """

    async def end(self, run_id: str) -> None:
        """End the run's processes, all of them, and record it as cancelled."""

    async def end_all(self, key: str) -> Mapping[str, RunResult]:
        """End every run of an execution: also those that no activity is attached to any more.

        Returns how each run that this host knows has ended, by run id, without its output.
        """

    async def extend(self, run_id: str, deadline: timedelta) -> None:
        """Set the run's deadline, counted from its start; standing still does not count.

        Raises: UnknownRequirement if it is not running.
        """

    async def suspend(self, key: str) -> tuple[str, ...]:
        """Let every run of an execution (`REQ/workflow run`) stand still until it is resumed.

        Its agents' processes are stopped, its deadlines do not come nearer, its permits are given
        back, and none of its runs starts. Returns the ids of the living runs that stand still.
        """

    async def resume(self, key: str) -> tuple[str, ...]:
        """Let the runs of an execution go on, each as soon as it has a permit again.

        Returns the ids of the living runs that stood still.
        """


class Workspaces(Protocol):
    """The project's git repository, seen through worktrees of our own.

    Raises, everywhere: ProjectRefused if the repository cannot be worked on.
    """

    async def open(self, number: str, base: str = "") -> tuple[Head, str]:
        """Create the integration branch; returns its tip and the target branch.

        A fix starts at its requirement's commit `base` and has no target.
        """

    async def prepare(self, request: StageRequest) -> str:
        """A fresh worktree for the attempt from `request.head`; the same one when asked again."""

    async def integrate(self, request: StageRequest, summary: str) -> MergeResult:
        """Commit the worktree's changes and merge them into the integration branch."""

    async def keep(self, request: StageRequest) -> str:
        """Commit what an unsuccessful attempt left to a kept ref, remove its worktree; the ref."""

    async def checkout_build(self, number: str, build: str, commit: str) -> str:
        """The build's worktree, reset to the commit; ignored files are kept."""

    async def merge_fix(self, number: str, fix: str) -> MergeResult:
        """Merge what a fix has done into the integration branch of its requirement."""

    async def merge_target(self, number: str, target_branch: str) -> MergeResult:
        """Merge a moved target into the integration branch."""

    async def holds(self, target_branch: str, commit: str) -> bool:
        """Whether the target has the commit already."""

    async def swap_target(self, number: str, target_branch: str, commit: str) -> bool:
        """Fast-forward the target to the commit; False if the target has moved on.

        Raises: ProjectRefused if the target is checked out and dirty.
        """

    async def release(self, number: str) -> None:
        """Remove the requirement's worktrees; branches and kept refs stay."""


class Caretaker(Protocol):
    """Looks after one place: the house (dependencies, records), or a host and what runs on it."""

    async def look(self) -> Sequence[Symptom]:
        """Everything that is wrong there now; what cannot be looked at is a symptom too."""

    async def act(self, symptom: Symptom) -> str:
        """Do once what the remedy says; what was done, in a sentence.

        Raises: PipelineError if it could not be done: that counts as a failed attempt.
        """


class HostCaretaker(Caretaker, Protocol):
    """Looks after a host."""

    async def relax(self) -> str:
        """Take back by one step what was done against a trouble that is over.

        Returns what was done, in a sentence; empty if nothing.
        """


class Readiness(Protocol):
    """Whether this worker reaches what every stage boundary needs."""

    def check(self) -> None:
        """Let pass while NATS and the SDLC database answer; costs nothing.

        Raises: DependencyUnavailable naming the one that does not, its address and the remedy.
        """


class RuleFacts(Protocol):
    """What the records know of a requirement that asks about the rules."""

    async def of(self, number: str) -> RequirementFacts:
        """Its facts, in a bounded time. Raises: UnknownRequirement, DependencyUnavailable."""


class Extender(Protocol):
    """Hands extensions of deadlines to the workflows."""

    async def extend(self, number: str, request: ExtensionRequest, repeat_id: str) -> str:
        """Move the deadline, once per `repeat_id`; the run that it belongs to.

        Raises: RefusedInput with the workflow's reason, DependencyUnavailable.
        """


class Builds(Protocol):
    """The project's own build commands."""

    async def run(self, request: BuildRequest, directory: str) -> BuildResult:
        """Prepare if needed and build in that checkout (empty: simulated), bounded in time."""


@dataclass(frozen=True)
class HostPorts:
    """The outside world of one host, and what its worker was told.

    `workspaces` is None on a host without a project; `parallel` is the worker's switch, told with
    every outcome.
    """

    store: SdlcStore
    publisher: EventPublisher
    waker: Waker
    sasha: Sasha
    house_care: Caretaker
    host_care: HostCaretaker
    runs: AgentRuns
    builds: Builds
    workspaces: Workspaces | None
    readiness: Readiness
    agents: AgentsFile
    host: str
    host_requirements: int
    parallel: bool

    async def publish(self, number: str) -> int:
        """Publish a requirement's pending events; a boundary does not pass before they are out."""
        return await self.store.publish_pending(number, self.publisher)

    @property
    def project(self) -> Workspaces:
        """The project. Raises: ProjectMissing on a host without one."""
        if self.workspaces is None:
            raise ProjectMissing(
                f"PROJECT_ROOT is not set for the worker on {self.host}: set it and restart it."
            )
        return self.workspaces
