"""What is written down, and sent out: the SDLC database and JetStream."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from pipeline.accounts import Limit
from pipeline.budgets import RunBudget
from pipeline.delivery_report import DeliveryFacts
from pipeline.events import Event
from pipeline.lost_hosts import Moving
from pipeline.model import (
    BuildOutcome,
    BuildRequest,
    BuildResult,
    ClosedRun,
    Closing,
    DeliveryRequest,
    Extension,
    FailureCollection,
    FailureReport,
    FixMerge,
    FixMerged,
    FixOpening,
    Held,
    Hold,
    Incident,
    InfrastructureOpening,
    Leftover,
    MergeResult,
    Notification,
    Opening,
    OpeningRequest,
    Preparation,
    Reminder,
    Reopening,
    RequirementRef,
    Retry,
    RoundResults,
    RunResult,
    SlotUsage,
    StageContext,
    StageOutcome,
    StageRequest,
    StageSkip,
)
from pipeline.notice import Notice
from pipeline.savings import Savings


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

    async def is_full(self, host: str, limit: int, *, number: str) -> bool:
        """Whether the host has so many others that run or only wait for the P0 gate.

        It always has room for what an open P0 waits for.
        """

    async def has_room(self, host: str, limit: int) -> bool:
        """Whether the host may ask for an opening: it has room, or a P0 waits for one."""

    async def pass_opening(self, request: OpeningRequest, subscriber: str) -> Hold | None:
        """A hold as of `open_stage`, or None: a host may take the requirement."""

    async def open_requirement(self, request: OpeningRequest, opening: Opening) -> None:
        """ACCEPTED -> RUNNING, host and base recorded, `workflow.started`."""

    async def open_stage(
        self, request: StageRequest, subscriber: str, account: str, resume: int, run: RunBudget
    ) -> StageContext | Hold:
        """Opens the run's row (`running`), `stage.started`; returns what the agent must be told.

        While something holds the requirement: a hold that `subscriber`, a workflow, is notified of;
        `workflow.held`. An account that cannot work holds it, too, unless the run is the one that
        tries, and a budget without room for a `run` that may cost so much. It is asked with a slot
        in hand, for a run that was not started, or whose session is to be resumed for the
        `resume`-th time: `stage.resumed`.
        """

    async def queue_stage(
        self, request: StageRequest, subscriber: str, account: str, resume: int, run: RunBudget
    ) -> Hold | None:
        """Says of a stage that it waits for a slot; or a hold as of `open_stage`."""

    async def record_usage(self, host: str, usage: SlotUsage) -> None:
        """How many slots of a host are used, for those who wait for one."""

    async def resume_stage(self, request: StageRequest) -> None:
        """Takes up again a run that was started, and given up since infrastructure failed."""

    async def limit_account(self, request: StageRequest, limit: Limit) -> bool:
        """A run that stays open has met a limit of its account; returns as `close_stage` does."""

    async def pass_delivery(
        self, request: DeliveryRequest, subscriber: str, repository: str, *, is_verified: bool
    ) -> Hold | None:
        """A hold as of `open_stage`, or None: it is the requirement's turn at that branch.

        It keeps the turn until it ends, is held or leaves. `is_verified`: it delivers now.
        """

    async def leave_line(self, number: str, *, keeps_place: bool) -> bool:
        """Lets others deliver; whether the requirement stood in line.

        One that `keeps_place` is served by its first arrival when it comes back.
        """

    async def is_delivery(self, commit: str) -> bool:
        """Whether one of our requirements was to deliver that very commit."""

    async def delivery_facts(self, number: str) -> DeliveryFacts:
        """What a pull request tells of the requirement. Raises: UnknownRequirement."""

    async def apply_preemption(self, ref: RequirementRef, subscriber: str) -> Hold | None:
        """What the requirement's running agents are suspended for; None: they may run.

        Raises: UnknownRequirement.
        """

    async def to_pre_empt(self, *, missed: bool = False) -> Sequence[str]:
        """Numbers of requirements and fixes whose agents have to be suspended.

        Those that were `missed`: they have agents that run, and were not told.
        """

    async def record_hold(self, held: Held) -> None:
        """A hold by a dependency that is over, and what is said of it; a repeat does nothing."""

    async def to_notify(self) -> Notification:
        """Everybody who is held and may continue, and whose turn to deliver it is."""

    async def start_preparing(self, request: StageRequest, builds: Sequence[str]) -> None:
        """The clone of the run's agent is being prepared for these builds: `stage.preparing`.

        A repeat after a crash begins anew, and is told once.
        """

    async def end_preparing(self, request: StageRequest, preparation: Preparation | None) -> None:
        """That has ended (None: it was found done): `stage.prepared`; a repeat does nothing."""

    async def start_run(
        self, request: StageRequest, at: datetime, base_commit: str, session: str = ""
    ) -> None:
        """The run's agent was really started, on that commit; a repeat changes nothing.

        Its program's `session` may become known later.
        """

    async def record_ends(self, number: str, results: Mapping[str, RunResult], host: str) -> None:
        """How runs of that host ended that no stage has closed, and what they cost."""

    async def close_stage(
        self,
        request: StageRequest,
        outcome: StageOutcome,
        result: RunResult,
        notice: Notice | None,
        merge: MergeResult | None,
        limit: Limit | None,
    ) -> ClosedRun:
        """Closes the run's row: cost, gate, deliverable, events, the group if it is the last.

        A `limit` that it has met holds all who work with that account. Somebody may have to be
        notified if the account works again, or waits for something else.

        Raises: StaleAttempt if a newer attempt of the stage is current.
        """

    async def skip_stages(self, skips: Sequence[StageSkip]) -> None:
        """`skipped` with its reason, `group.completed` if it closes the group."""

    async def record_build(
        self, request: BuildRequest, outcome: BuildOutcome, result: BuildResult
    ) -> None:
        """The gate's row and `build.passed` or `build.failed`."""

    async def open_build(
        self, request: BuildRequest, subscriber: str
    ) -> BuildOutcome | Hold | None:
        """The recorded outcome of that very verification; else a hold as of `open_stage`, or None.

        None: it is to be built; the first time that tells `build.started`.
        """

    async def block(self, collection: FailureCollection, report: FailureReport) -> None:
        """Failures, blocked stages, RUNNING -> BLOCKED, `workflow.blocked`, the escalation."""

    async def reopen(self, reopening: Reopening) -> None:
        """Stages back to waiting, blockers resolved, BLOCKED -> RUNNING, `workflow.resumed`."""

    async def open_fixes(self, opening: FixOpening) -> None:
        """Rows of fixes before their workflows, with parent and blocker links."""

    async def merge_fix(self, merge: FixMerge, merged: FixMerged) -> None:
        """The gate of a fix's merge, and its failure if it conflicts."""

    async def apply_results(self, results: RoundResults) -> None:
        """What a round of fixes achieved: green gates resolve their failures and blockers.

        BLOCKED -> RUNNING and `workflow.resumed` if nothing is left.
        """

    async def attempts(self, number: str) -> Mapping[str, int]:
        """The latest attempt of every stage."""

    async def remind(self, reminder: Reminder) -> None:
        """Says an open question to a human again: `escalation.reminder`."""

    async def remind_of_holds(self, at: datetime) -> None:
        """Says questions about accounts and budgets again that are due by then, while one is held.

        A repeat, or another worker, says nothing more.
        """

    async def extend(self, extension: Extension) -> None:
        """The row of an extended deadline, one per run and deadline."""

    async def savings(self, number: str) -> Savings:
        """What running in parallel saved, from the recorded intervals of agents and builds."""

    async def close_requirement(self, closing: Closing) -> bool:
        """The final state, its event and `workflow.performance` from the recorded intervals.

        Returns whether somebody may have to be notified.
        """

    async def record_incident(self, incident: Incident) -> None:
        """The row of an incident that is over for Sasha; a repeat does nothing."""

    async def last_infrastructure(self, component: str) -> int:
        """The highest n of the component's P0s, ended or not; 0 if there was none."""

    async def open_infrastructure(self, opening: InfrastructureOpening) -> None:
        """A P0 requirement without stages, BLOCKED until a human or a look ends it.

        Raises: AlreadyStarted if the number is taken.
        """

    async def note_retry(self, retry: Retry) -> None:
        """Shows that a step is tried again; a later failure takes the place of the one before."""

    async def forget_retry(self, workflow_id: str, activity_id: str) -> None:
        """Nothing of that activity is tried again any more."""

    async def leftovers(self, host: str) -> Sequence[Leftover]:
        """What requirements that have ended left on that host, and nobody has cleaned up yet."""

    async def note_leftover(self, number: str, reason: str, host: str) -> None:
        """Another try to clean up there has failed; without a reason it is done, and is said."""

    async def open_on(self, host: str) -> Sequence[str]:
        """The requirements and fixes of a host that have not ended."""

    async def moving(self, number: str, lost: str) -> Moving | None:
        """What would move with the requirement, or fix, from a lost host; None if nothing would.

        Raises: RequirementMoved if it has left that host.
        """

    async def move(self, what: Moving, host: str, beat: str) -> None:
        """`host` continues it, `workflow.moved`; `beat` is the last that the lost host has told.

        Raises: HostBack, HostLost, RequirementMoved if another host was faster.
        """

    async def publish_pending(self, number: str, publisher: EventPublisher) -> int:
        """Publishes committed, unpublished events in order under the requirement's lock.

        Returns how many went out. Raises: DependencyUnavailable if NATS refused one.
        """

    async def numbers_with_pending_events(self) -> Sequence[str]:
        """Requirements that have unpublished events."""
