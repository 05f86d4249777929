"""Reads of the SDLC database for people: the command line looks, and changes nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from pydantic import TypeAdapter
from sqlalchemy import Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from adapters.installation import binding_of
from adapters.sdlc import budgets, costs, queries
from adapters.sdlc.context import look_at_context
from adapters.sdlc.costs import COST_COLUMNS, cost_of_row
from adapters.sdlc.database import Database, async_engine
from adapters.sdlc.durations import durations_of
from adapters.sdlc.orphans import ended_requirements
from adapters.sdlc.pauses import open_pauses
from adapters.sdlc.performance import measure
from adapters.sdlc.reports import facts_of, rates_of
from adapters.sdlc.requirements import ORDER
from adapters.sdlc.tables import (
    Base,
    CostRow,
    EscalationRow,
    EventRow,
    IncidentRow,
    NoteRow,
    PhaseRow,
    RequirementRow,
    RunRow,
)
from adapters.sdlc.views import (
    AccountView,
    CostLine,
    EscalationView,
    EventView,
    FailureView,
    HoldView,
    IncidentView,
    LeftoverView,
    ListedRequirement,
    NoteView,
    PerformanceView,
    PhaseView,
    RequirementSummary,
    RequirementView,
    RetryView,
    RunView,
)
from pipeline.budgets import Budget
from pipeline.costs import By
from pipeline.durations import Known
from pipeline.errors import UnknownRequirement
from pipeline.forecast import Sample
from pipeline.installation import Installation
from pipeline.model import (
    NO_COST,
    RequirementOrder,
    RequirementState,
    StageContext,
    StageRequest,
)
from pipeline.pauses import Pause
from pipeline.rates import Rates
from pipeline.report import RequirementFacts

T = TypeVar("T")

_READER_POOL = 2
_adapter: Callable[[Any], TypeAdapter[Any]] = cache(TypeAdapter)
"""Making one costs more than the whole read: a watch would make one at every change."""


def create_reader(database_url: str, installation: str = "") -> "SdlcReader":
    """A reader for `postgresql+psycopg://…`; it connects on first use.

    With an installation's id it reads no database but that one's.
    """
    engine = async_engine(database_url, pool_size=_READER_POOL, installation=installation)
    return SdlcReader(engine)


class SdlcReader:
    """Every method raises DependencyUnavailable if the database cannot be reached."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._database = Database(engine)

    async def close(self) -> None:
        """Give the connections back."""
        await self._database.close()

    async def installation(self) -> Installation | None:
        """Which installation the database is; None before its first contact with Temporal."""
        binding = await self._database.read(binding_of)
        return binding.installation if binding else None

    async def requirement(self, number: str) -> RequirementView:
        """A requirement with stages, gates, fixes and what is open. Raises: UnknownRequirement."""
        rows = await self._database.read(lambda connection: queries.details(connection, number))
        if rows is None:
            raise _unknown(number)
        return _views(RequirementView, [rows])[0]

    async def under_way(self) -> tuple[str, ...]:
        """The numbers of all requirements that have not ended, oldest first, without fixes."""
        return tuple(row["number"] for row in await self._rows(queries.under_way()))

    async def versions(self, numbers: Sequence[str]) -> Mapping[str, object]:
        """What differs if a requirement, its fixes or its retries have changed, of each that is.

        One cheap statement for all of them, in place of a dozen for each.
        """
        found = await self._rows(queries.versions(numbers))
        return {row.pop("number"): tuple(row.values()) for row in map(dict, found)}

    async def order(self, number: str) -> RequirementOrder:
        """The input that stands in the row. Raises: UnknownRequirement."""
        query = select(RequirementRow.plan).where(RequirementRow.number == number)
        rows = await self._rows(query)
        if not rows:
            raise _unknown(number)
        return ORDER.validate_python(rows[0]["plan"])

    async def accepted(self, number: str) -> tuple[RequirementOrder, str]:
        """Its order and its description, as they stand in the row. Raises: UnknownRequirement."""
        columns = (RequirementRow.plan, RequirementRow.description)
        rows = await self._rows(select(*columns).where(RequirementRow.number == number))
        if not rows:
            raise _unknown(number)
        return ORDER.validate_python(rows[0]["plan"]), rows[0]["description"]

    async def context(self, request: StageRequest) -> StageContext:
        """What an agent would be told of its requirement now. Raises: UnknownRequirement."""
        return await self._database.read(lambda connection: look_at_context(connection, request))

    async def states(self, numbers: Sequence[str]) -> Mapping[str, RequirementState]:
        """The states of those of the numbers that are known."""
        query = select(RequirementRow.number, RequirementRow.state).where(
            RequirementRow.number.in_(numbers)
        )
        return {row["number"]: RequirementState(row["state"]) for row in await self._rows(query)}

    async def ended(self, numbers: Sequence[str]) -> Mapping[str, datetime]:
        """When those of the numbers ended that have; a fix not before what it repairs."""
        return await self._database.read(lambda connection: ended_requirements(connection, numbers))

    async def requirements(
        self,
        *,
        states: Sequence[RequirementState] = (),
        waiting: bool = False,
        limit: int | None = None,
    ) -> tuple[ListedRequirement, ...]:
        """Requirements, newest first: of those states, or those that wait for something."""
        query = queries.listed(_columns(RequirementSummary, RequirementRow)).order_by(
            RequirementRow.created_at.desc(), RequirementRow.number
        )
        if states:
            query = query.where(RequirementRow.state.in_([str(state) for state in states]))
        if waiting:
            waits = (queries.is_queued(), queries.is_retried(), queries.is_paused())
            query = query.where(or_(RequirementRow.waiting_for != "", *waits))
        return await self._database.read(lambda connection: _listed(connection, query.limit(limit)))

    async def retries(self) -> tuple[RetryView, ...]:
        """Every step that failed and is tried again now, longest first."""
        return _views(RetryView, await self._rows(queries.retries()))

    async def accounts(self) -> tuple[AccountView, ...]:
        """Programs' accounts that cannot work now, longest first, and who waits for each."""
        return _views(AccountView, await self._database.read(queries.accounts))

    async def pauses(self) -> tuple[Pause, ...]:
        """What humans have paused, longest first."""
        return tuple(await self._database.read(open_pauses))

    async def leftovers(self) -> tuple[LeftoverView, ...]:
        """What requirements that have ended left on their hosts, oldest first."""
        return _views(LeftoverView, await self._rows(queries.leftovers()))

    async def runs(self, number: str) -> tuple[RunView, ...]:
        """Every attempt in the order of opening."""
        query = (
            select(*RunRow.__table__.columns, CostRow.seconds, *COST_COLUMNS)
            .outerjoin(CostRow, CostRow.run_id == RunRow.run_id)
            .where(RunRow.number == number)
            .order_by(RunRow.opened_at, RunRow.run_id)
        )
        found = await self._rows(query)
        return _views(RunView, [{**row, "cost": cost_of_row(row)} for row in found])

    async def costs(
        self, by: By, number: str | None = None, since: datetime | None = None
    ) -> tuple[CostLine, ...]:
        """What runs cost that ended since then: of one requirement with its fixes, or of all."""
        return _views(
            CostLine,
            await self._database.read(
                lambda connection: costs.listed(connection, by, number, since)
            ),
        )

    async def recorded_costs(self) -> tuple[tuple[Sample, ...], tuple[float, ...]]:
        """What stages of earlier requirements cost, and what the fixes of each requirement did."""
        return await self._database.read(costs.recorded)

    async def durations(self) -> Known:
        """How long stages, builds and repairs of earlier requirements took."""
        return await self._database.read(durations_of)

    async def budgets(self, number: str = "") -> tuple[Budget, ...]:
        """The budgets that runs of a requirement count in; without one, that of the day."""
        return await self._database.read(
            lambda connection: budgets.of_requirement(connection, number)
        )

    async def failures(self, number: str) -> tuple[FailureView, ...]:
        """Every failure that was ever reported, resolved ones included."""
        return _views(FailureView, await self._rows(queries.failures(number)))

    async def escalations(self, number: str) -> tuple[EscalationView, ...]:
        """Every question to a human in order, with its answer."""
        query = (
            select(EscalationRow)
            .where(EscalationRow.number == number)
            .order_by(EscalationRow.escalation)
        )
        return _views(EscalationView, await self._rows(query))

    async def holds(self, number: str) -> tuple[HoldView, ...]:
        """Every hold in order, those that are over included."""
        return _views(HoldView, await self._rows(queries.holds(number)))

    async def incidents(self, limit: int | None = None) -> tuple[IncidentView, ...]:
        """What was wrong with the infrastructure, newest first."""
        query = select(IncidentRow).order_by(IncidentRow.began_at.desc(), IncidentRow.incident_id)
        return _views(IncidentView, await self._rows(query.limit(limit)))

    async def phases(self, number: str) -> tuple[PhaseView, ...]:
        """Every phase change in order."""
        query = select(PhaseRow).where(PhaseRow.number == number).order_by(PhaseRow.id)
        return _views(PhaseView, await self._rows(query))

    async def notes(self, number: str) -> tuple[NoteView, ...]:
        """Every human answer in order."""
        query = select(NoteRow).where(NoteRow.number == number).order_by(NoteRow.answer)
        return _views(NoteView, await self._rows(query))

    async def events(
        self, number: str | None = None, *, after: int = 0, limit: int = 1_000
    ) -> tuple[EventView, ...]:
        """Event rows after that id in order, of one requirement or of all."""
        query = select(EventRow).where(EventRow.id > after).order_by(EventRow.id).limit(limit)
        if number is not None:
            query = query.where(EventRow.number == number)
        return _views(EventView, await self._rows(query))

    async def performance(self, number: str) -> PerformanceView:
        """What running in parallel brought, so far."""
        now = datetime.now(UTC)
        measured = await self._database.read(lambda connection: measure(connection, number, now))
        return PerformanceView(
            sequential_seconds=measured.savings.sequential.total_seconds(),
            parallel_seconds=measured.savings.parallel.total_seconds(),
            saved_seconds=measured.savings.saved.total_seconds(),
            percentage_saved=measured.savings.percentage_saved,
            wall_seconds=measured.wall.total_seconds(),
            queue_seconds=measured.queue.total_seconds(),
            hold_seconds=measured.hold.total_seconds(),
            human_seconds=measured.human.total_seconds(),
        )

    async def facts(self, number: str) -> RequirementFacts:
        """All that a report on one requirement needs. Raises: UnknownRequirement."""
        now = datetime.now(UTC)
        return await self._database.read(lambda connection: facts_of(connection, number, now))

    async def rates(self, since: datetime | None = None) -> Rates:
        """The figures of all requirements that ended since then, or have not ended."""
        now = datetime.now(UTC)
        return await self._database.read(lambda connection: rates_of(connection, since, now))

    async def _rows(self, query: Select[*tuple[Any, ...]]) -> Sequence[Mapping[str, Any]]:
        return await self._database.read(lambda connection: queries.rows(connection, query))


async def _listed(
    connection: AsyncConnection, query: queries.Query
) -> tuple[ListedRequirement, ...]:
    """What the query lists, each with its stages that wait for a slot, and steps that fail."""
    found = await queries.in_line(connection, await queries.rows(connection, query))
    if not found:
        return ()
    numbers = [row["number"] for row in found]
    queued = await queries.rows(connection, queries.queued(*numbers))
    retried = await queries.rows(connection, queries.retries())
    building = await queries.rows(connection, queries.building(numbers))
    preparing = await queries.rows(connection, queries.preparing(numbers))
    paused = await queries.rows(connection, queries.pauses(numbers))
    spent = await costs.of_requirements(connection, numbers)
    return _views(
        ListedRequirement,
        [
            {
                **row,
                "queued": [each for each in queued if each["number"] == row["number"]],
                "retries": [each for each in retried if each["number"] == row["number"]],
                "building": [each for each in building if each["number"] == row["number"]],
                "pauses": [each for each in paused if each["number"] == row["number"]],
                "preparing": [each for each in preparing if each["number"] == row["number"]],
                "cost": spent.get(row["number"], NO_COST),
            }
            for row in found
        ],
    )


def _views(view: type[T], rows: Sequence[Mapping[str, Any]]) -> tuple[T, ...]:
    adapter = _adapter(view)
    return tuple(adapter.validate_python(row) for row in rows)


def _columns(view: type, table: type[Base]) -> list[Any]:
    """The columns that a view shows; others may be large."""
    return [getattr(table, field.name) for field in fields(view)]


def _unknown(number: str) -> UnknownRequirement:
    return UnknownRequirement(
        f"There is no requirement {number}. `python starter.py list` shows all that there are."
    )
