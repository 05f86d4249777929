"""The port `SdlcStore` on PostgreSQL: one transaction per method, described in `adapters.sdlc`."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from adapters.sdlc import (
    acceptance,
    blocking,
    closing,
    escalating,
    fixing,
    gates,
    incidents,
    lifecycle,
    pre_emption,
    publishing,
    resuming,
    retries,
    runs,
    settling,
    stages,
    turns,
    user_blockers,
)
from adapters.sdlc.acceptance import Acceptance
from adapters.sdlc.database import Database, async_engine
from adapters.sdlc.performance import measure
from adapters.sdlc_tables import RequirementRow
from pipeline.errors import UnknownRequirement
from pipeline.model import (
    BuildOutcome,
    BuildRequest,
    BuildResult,
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
    Opening,
    OpeningRequest,
    Reminder,
    Reopening,
    RequirementOrder,
    RequirementRef,
    Retry,
    RunResult,
    Settlement,
    SlotUsage,
    StageContext,
    StageOutcome,
    StageRequest,
    StageSkip,
    Wake,
)
from pipeline.notice import Notice
from pipeline.ports import EventPublisher
from pipeline.savings import Savings

__all__ = ["Acceptance", "PostgresSdlcStore", "create_store"]

P = ParamSpec("P")
T = TypeVar("T")


def create_store(database_url: str, installation: str = "") -> "PostgresSdlcStore":
    """A store for `postgresql+psycopg://…`; it connects on first use.

    With an installation's id it writes to no database but that one's.
    """
    return PostgresSdlcStore(async_engine(database_url, installation=installation))


class PostgresSdlcStore:
    """Writes of the SDLC database. Close it in the end."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._database = Database(engine)
        self._outbox = publishing.Outbox(self._database)

    @property
    def database(self) -> Database:
        """Its connections, for what is no row of a requirement."""
        return self._database

    async def check(self) -> None:
        """Raises: DependencyUnavailable if the database or its tables are not there."""
        await self._read(lifecycle.is_full, "", 1, "")

    async def close(self) -> None:
        """Give the connections back."""
        await self._outbox.settle()
        await self._database.close()

    # --- before the workflow ----------------------------------------------------------------

    async def accept(
        self, order: RequirementOrder, description: str, parent: str | None = None
    ) -> bool:
        """The requirement's row; False if a start that got no further had written it before.

        Raises: AlreadyStarted, UnknownRequirement for the parent.
        """
        return bool(await self.accept_all([Acceptance(order, description, parent)]))

    async def accept_all(self, acceptances: Sequence[Acceptance]) -> tuple[str, ...]:
        """All rows or none; returns the numbers that are new. Raises: as `accept`."""
        return await self._write(acceptance.accept, acceptances)

    async def description(self, number: str) -> str:
        """The text of a requirement. Raises: UnknownRequirement."""
        return await self._read(_description, number)

    async def is_full(self, host: str, limit: int, *, number: str) -> bool:
        """Whether the host has no room for that requirement."""
        return await self._read(lifecycle.is_full, host, limit, number)

    async def has_room(self, host: str, limit: int) -> bool:
        """Whether the host may ask for an opening."""
        return await self._read(lifecycle.has_room, host, limit)

    async def pass_opening(self, request: OpeningRequest, waiter: str) -> Hold | None:
        """What holds a requirement that no host has taken yet; its rows and events."""
        return await self._write(lifecycle.pass_opening, request, waiter)

    # --- the life of a requirement ------------------------------------------------------------

    async def open_requirement(self, request: OpeningRequest, opening: Opening) -> None:
        """ACCEPTED -> RUNNING, host and base recorded, `workflow.started`."""
        await self._write(lifecycle.open_requirement, request, opening)

    async def add_blocker(self, number: str, by: str) -> None:
        """Lets a requirement wait for another one. Raises: RefusedInput, UnknownRequirement."""
        await self._write(user_blockers.block, number, by)

    async def remove_blocker(self, number: str, by: str) -> None:
        """Lets it wait no longer. Raises: RefusedInput if it does not."""
        await self._write(user_blockers.unblock, number, by)

    async def to_wake(self) -> Wake:
        """Everybody who is held at the gate and may go on, and whose turn to deliver it is."""
        return await self._read(turns.to_wake)

    async def pass_delivery(
        self, request: DeliveryRequest, waiter: str, repository: str, *, is_verified: bool
    ) -> Hold | None:
        """What holds a delivery, the gate or those before it in line; its rows and events."""
        return await self._write(
            turns.pass_delivery, request, waiter, repository, is_verified=is_verified
        )

    async def leave_line(self, number: str, *, keeps_place: bool) -> bool:
        """Lets others deliver; whether the requirement stood in line."""
        return await self._write(turns.leave, number, keeps_place=keeps_place)

    async def is_delivery(self, commit: str) -> bool:
        """Whether one of our requirements was to deliver that very commit."""
        return await self._read(turns.is_delivery, commit)

    async def stand_still(self, ref: RequirementRef, waiter: str) -> Hold | None:
        """What the requirement's running agents must stand still for; None: they may go on."""
        return await self._write(pre_emption.stand_still, ref, waiter)

    async def to_pre_empt(self, *, missed: bool = False) -> tuple[str, ...]:
        """Whose agents have to stand still, or of them those that do not."""
        return await self._read(lambda each: pre_emption.to_pre_empt(each, missed=missed))

    async def record_hold(self, held: Held) -> None:
        """A hold by a dependency that is over, and what is said of it; a repeat does nothing."""
        await self._write(lifecycle.record_hold, held)

    async def open_stage(self, request: StageRequest, waiter: str) -> StageContext | Hold:
        """Opens the run's row, `stage.started`; what the agent must be told, or what holds."""
        return await self._write(stages.open_stage, request, waiter)

    async def queue_stage(self, request: StageRequest, waiter: str) -> Hold | None:
        """Says that the stage waits for a slot, or what holds it."""
        return await self._write(stages.queue_stage, request, waiter)

    async def resume_stage(self, request: StageRequest) -> None:
        """Takes up again a run that was started, and given up since infrastructure failed."""
        await self._write(stages.resume_stage, request)

    async def start_run(self, run_id: str, at: datetime, base_commit: str) -> None:
        """The run's agent was really started; a repeat changes nothing."""
        await self._write(runs.start_run, run_id, at, base_commit)

    async def record_usage(self, host: str, usage: SlotUsage) -> None:
        """How many slots of a host are used."""
        await self._write(runs.record_usage, host, usage)

    async def record_ends(self, number: str, results: Mapping[str, RunResult]) -> None:
        """How runs ended that no stage has closed, and what they cost."""
        await self._write(runs.record_ends, number, results)

    async def close_stage(
        self,
        request: StageRequest,
        outcome: StageOutcome,
        result: RunResult,
        notice: Notice | None,
        merge: MergeResult | None,
    ) -> None:
        """Closes the run's row: cost, gates, deliverable, events, the group if it is the last."""
        ended = closing.EndedRun(request, outcome, result, notice, merge)
        await self._write(closing.close_stage, ended)

    async def skip_stage(self, skip: StageSkip) -> None:
        """`skipped` with its reason, `group.completed` if it closes the group."""
        await self._write(stages.skip_stage, skip)

    async def record_build(
        self, request: BuildRequest, outcome: BuildOutcome, result: BuildResult
    ) -> None:
        """The gate's row and `build.passed` or `build.failed`."""
        await self._write(gates.record_build, request, outcome, result)

    async def open_build(self, request: BuildRequest, waiter: str) -> BuildOutcome | Hold | None:
        """The recorded outcome of that very verification, if there is one."""
        return await self._write(gates.open_build, request, waiter)

    async def block(self, collection: FailureCollection, report: FailureReport) -> None:
        """Failures, blockers, blocked stages, RUNNING -> BLOCKED, `workflow.blocked`."""
        await self._write(blocking.block, collection, report)

    async def reopen(self, reopening: Reopening) -> None:
        """Stages back to waiting, blockers resolved, BLOCKED -> RUNNING, `workflow.resumed`."""
        await self._write(resuming.reopen, reopening)

    async def open_fixes(self, opening: FixOpening) -> None:
        """Rows of fixes, with parent and blocker links."""
        await self._write(fixing.open_fixes, opening)

    async def merge_fix(self, merge: FixMerge, merged: FixMerged) -> None:
        """The gate of a fix's merge, and its failure if it conflicts."""
        await self._write(fixing.merge_fix, merge, merged)

    async def settle(self, settlement: Settlement) -> None:
        """What a round of fixes achieved; BLOCKED -> RUNNING if nothing is left."""
        await self._write(settling.settle, settlement)

    async def attempts(self, number: str) -> Mapping[str, int]:
        """The latest attempt of every stage."""
        return await self._read(fixing.attempts, number)

    async def remind(self, reminder: Reminder) -> None:
        """Says an open question to a human again."""
        await self._write(escalating.remind, reminder)

    async def extend(self, extension: Extension) -> None:
        """The row of an extended deadline."""
        await self._write(lifecycle.extend, extension)

    async def close_requirement(self, closing: Closing) -> bool:
        """The final state, its event and `workflow.performance` from the recorded intervals."""
        return await self._write(lifecycle.close_requirement, closing)

    # --- what does not succeed at once --------------------------------------------------------

    async def note_retry(self, retry: Retry) -> None:
        """Shows that a step is tried again; its latest failure."""
        await self._write(retries.note_retry, retry)

    async def forget_retry(self, workflow_id: str, activity_id: str) -> None:
        """Nothing of that activity is tried again any more."""
        await self._write(retries.forget_retry, workflow_id, activity_id)

    async def leftovers(self, host: str) -> Sequence[Leftover]:
        """What ended requirements left on that host, oldest first."""
        return await self._read(retries.leftovers, host)

    async def note_leftover(self, number: str, reason: str) -> None:
        """Another try to clean up has failed; without a reason it is done."""
        await self._write(retries.note_leftover, number, reason)

    async def savings(self, number: str) -> Savings:
        """What running in parallel has saved so far, from the recorded intervals."""
        return (await self._read(measure, number, datetime.now(UTC))).savings

    # --- events -------------------------------------------------------------------------------

    # --- infrastructure ---------------------------------------------------------------------------

    async def record_incident(self, incident: Incident) -> None:
        """The row of an incident that is over for Sasha; a repeat does nothing."""
        await self._write(incidents.record_incident, incident)

    async def last_infrastructure(self, component: str) -> int:
        """The highest n of the component's P0s, ended or not; 0 if there was none."""
        return await self._read(incidents.last_infrastructure, component)

    async def open_infrastructure(self, opening: InfrastructureOpening) -> None:
        """A P0 requirement without stages, BLOCKED until a human or a look ends it."""
        await self._write(incidents.open_infrastructure, opening)

    async def publish_pending(self, number: str, publisher: EventPublisher) -> int:
        """Publishes committed, unpublished events in order; returns how many went out."""
        return await self._outbox.publish(number, publisher)

    async def numbers_with_pending_events(self) -> Sequence[str]:
        """Requirements that have unpublished events."""
        return await self._read(publishing.numbers_owing)

    async def _write(
        self,
        work: Callable[Concatenate[AsyncConnection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._database.write(lambda connection: work(connection, *args, **kwargs))

    async def _read(
        self,
        work: Callable[Concatenate[AsyncConnection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        return await self._database.read(lambda connection: work(connection, *args, **kwargs))


async def _description(connection: AsyncConnection, number: str) -> str:
    query = select(RequirementRow.description).where(RequirementRow.number == number)
    text = (await connection.execute(query)).scalar()
    if text is None:
        raise UnknownRequirement(f"There is no requirement {number}.")
    return str(text)
