"""The port `SdlcStore` on PostgreSQL: which transaction stands behind each of its methods.

Each is a function of this package that takes the connection of its transaction first. What a
method promises is said at the port, how it is kept at the function.
"""

from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from adapters.sdlc import (
    accounts,
    blockers,
    budgets,
    deliveries,
    failures,
    fixes,
    gates,
    holds,
    hosts,
    incidents,
    outbox,
    pauses,
    reminders,
    remote_work,
    reports,
    requirements,
    retries,
    run_ends,
    run_starts,
)
from adapters.sdlc.database import Database, async_engine
from adapters.sdlc.performance import measure
from adapters.sdlc.requirements import Acceptance
from pipeline.model import RequirementOrder, RequirementRef
from pipeline.ports import EventPublisher
from pipeline.savings import Savings

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[AsyncConnection, P], Awaitable[T]]
Method = Callable[Concatenate["PostgresSdlcStore", P], Coroutine[Any, Any, T]]


class OfRequirement(Protocol):
    """A request of an activity that works for one requirement."""

    @property
    def ref(self) -> RequirementRef:
        """The requirement."""


Request = TypeVar("Request", bound=OfRequirement)


def create_store(database_url: str, installation: str = "", host: str = "") -> "PostgresSdlcStore":
    """A store for `postgresql+psycopg://…`; it connects on first use.

    With an installation's id it writes to no database but that one's. With a host's name, what only
    the host of a requirement may do is refused once another one continues it.
    """
    return PostgresSdlcStore(async_engine(database_url, installation=installation), host)


def _write(work: Work[P, T]) -> Method[P, T]:
    """A method that does the work in one transaction."""

    async def method(self: "PostgresSdlcStore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.database.write(lambda connection: work(connection, *args, **kwargs))

    return method


def _write_here(
    work: Work[Concatenate[Request, P], T],
) -> Method[Concatenate[Request, P], T]:
    """As `_write`, for what only the requirement's host may do. Raises: RequirementMoved."""

    async def method(
        self: "PostgresSdlcStore", request: Request, /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        async def fenced(connection: AsyncConnection) -> T:
            if self.host:
                await hosts.stay_here(connection, request.ref.number, self.host)
            return await work(connection, request, *args, **kwargs)

        return await self.database.write(fenced)

    return method


def _read(work: Work[P, T]) -> Method[P, T]:
    """A method that reads, without a transaction of its own."""

    async def method(self: "PostgresSdlcStore", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.database.read(lambda connection: work(connection, *args, **kwargs))

    return method


class PostgresSdlcStore:
    """Writes of the SDLC database. Close it in the end."""

    def __init__(self, engine: AsyncEngine, host: str = "") -> None:
        self.host = host
        """The host that writes, if its requirements may move to another one."""
        self.database = Database(engine)
        """Its connections, for what is no row of a requirement."""
        self._outbox = outbox.Outbox(self.database)

    async def check(self) -> None:
        """Raises: DependencyUnavailable if the database or its tables are not there."""
        await self.is_full("", 1, "")

    async def close(self) -> None:
        """Give the connections back."""
        await self._outbox.settle()
        await self.database.close()

    # --- a requirement begins and ends ------------------------------------------------------

    async def accept(
        self, order: RequirementOrder, description: str, parent: str | None = None
    ) -> bool:
        """The requirement's row; False if a start that got no further had written it before.

        Raises: AlreadyStarted, UnknownRequirement for the parent.
        """
        return bool(await self.accept_all([Acceptance(order, description, parent)]))

    accept_all = _write(requirements.accept)
    description = _read(requirements.description)
    is_full = _read(requirements.is_full)
    has_room = _read(requirements.has_room)
    pass_opening = _write(requirements.pass_opening)
    open_requirement = _write(requirements.open_requirement)
    extend = _write(requirements.extend)
    close_requirement = _write(requirements.close_requirement)

    # --- what holds it ----------------------------------------------------------------------

    add_blocker = _write(blockers.add_blocker)
    remove_blocker = _write(blockers.remove_blocker)
    record_hold = _write(holds.record_hold)
    apply_preemption = _write(holds.apply_preemption)
    to_pre_empt = _read(holds.to_pre_empt)
    pause = _write(pauses.pause)
    unpause = _write(pauses.unpause)
    resume_account = _write(accounts.resume_account)
    raise_budget = _write(budgets.raise_budget)
    set_day_budget = _write(budgets.set_day_budget)
    _due_reminders = _read(reminders.due_reminders)
    _remind_held = _write(reminders.remind_held)

    async def remind_of_holds(self, at: datetime) -> None:
        """Say questions about accounts and budgets again that are due by then."""
        for reminder in await self._due_reminders(at):
            await self._remind_held(reminder)

    # --- its host ---------------------------------------------------------------------------

    beat = _write(hosts.beat)
    open_on = _read(hosts.open_on)
    moving = _read(hosts.moving)
    move = _write(hosts.move)

    # --- its stages and gates ---------------------------------------------------------------

    open_stage = _write_here(run_starts.open_stage)
    queue_stage = _write_here(run_starts.queue_stage)
    resume_stage = _write_here(run_starts.resume_stage)
    limit_account = _write_here(run_starts.limit_account)
    close_stage = _write_here(run_ends.close_stage)
    skip_stages = _write(run_starts.skip_stages)
    start_preparing = _write_here(run_starts.start_preparing)
    end_preparing = _write_here(run_starts.end_preparing)
    start_run = _write_here(run_starts.start_run)
    record_ends = _write(run_ends.record_ends)
    record_usage = _write(run_starts.record_usage)
    record_deliverable = _write(remote_work.record_deliverable)
    open_build = _write_here(gates.open_build)
    record_build = _write_here(gates.record_build)

    # --- its delivery -----------------------------------------------------------------------

    pass_delivery = _write_here(deliveries.pass_delivery)
    leave_line = _write(deliveries.leave)
    is_delivery = _read(deliveries.is_delivery)
    delivery_facts = _read(reports.delivery_facts)
    to_notify = _read(deliveries.to_notify)

    # --- its failures and fixes -------------------------------------------------------------

    block = _write(failures.block)
    reopen = _write(failures.reopen)
    apply_results = _write(failures.apply_results)
    remind = _write(failures.remind)
    open_fixes = _write(fixes.open_fixes)
    merge_fix = _write_here(fixes.merge_fix)
    attempts = _read(fixes.attempts)

    # --- what goes wrong around it ----------------------------------------------------------

    note_retry = _write(retries.note_retry)
    forget_retry = _write(retries.forget_retry)
    leftovers = _read(retries.leftovers)
    note_leftover = _write(retries.note_leftover)
    record_incident = _write(incidents.record_incident)
    last_infrastructure = _read(incidents.last_infrastructure)
    open_infrastructure = _write(incidents.open_infrastructure)

    # --- what is said of it -----------------------------------------------------------------

    async def savings(self, number: str) -> Savings:
        """What running in parallel has saved so far, from the recorded intervals."""
        performance = await self.database.read(
            lambda connection: measure(connection, number, datetime.now(UTC))
        )
        return performance.savings

    async def publish_pending(self, number: str, publisher: EventPublisher) -> int:
        """Publish committed, unpublished events in order; returns how many went out."""
        return await self._outbox.publish(number, publisher)

    numbers_with_pending_events = _read(outbox.numbers_owing)
