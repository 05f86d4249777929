"""One transaction on one requirement: what was moved, said and written, sent as one statement.

Locking the requirement's row first makes two parallel closings see each other. Everything after
that is collected and flushed as one statement with data-modifying CTEs: a stage costs few trips.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    DateTime,
    Insert,
    RowMapping,
    Text,
    Update,
    bindparam,
    column,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc_tables import EventRow, PhaseRow, RequirementRow, StageRow
from pipeline.errors import UnknownRequirement
from pipeline.events import Event, EventType, event
from pipeline.model import RequirementState, StageState
from pipeline.phases import check_requirement_move, check_stage_move

ORCHESTRATOR = "orchestrator"
"""Who moves a phase where no human did."""

_LOCK = (
    select(
        RequirementRow.number,
        RequirementRow.title,
        RequirementRow.state,
        RequirementRow.sequential,
        RequirementRow.host,
        RequirementRow.round,
        RequirementRow.workflow_run,
        RequirementRow.created_at,
        RequirementRow.started_at,
    )
    .where(RequirementRow.number == bindparam("number"))
    .with_for_update()
)

_PHASES = (
    func.jsonb_to_recordset(bindparam("phases", type_=JSONB))
    .table_valued(
        column("seq", BigInteger),
        column("number", Text),
        column("stage", Text),
        column("source", Text),
        column("target", Text),
        column("at", DateTime(timezone=True)),
        column("who", Text),
        column("why", Text),
        name="phase",
    )
    .render_derived(with_types=True)
)
_EVENTS = (
    func.jsonb_to_recordset(bindparam("events", type_=JSONB))
    .table_valued(
        column("seq", BigInteger),
        column("number", Text),
        column("event_id", Text),
        column("type", Text),
        column("subject", Text),
        column("payload", JSONB),
        column("created_at", DateTime(timezone=True)),
        name="event",
    )
    .render_derived(with_types=True)
)
_PHASE_NAMES = [name for name in _PHASES.c.keys() if name != "seq"]  # noqa: SIM118 # not a dict
_EVENT_NAMES = [name for name in _EVENTS.c.keys() if name != "seq"]  # noqa: SIM118 # not a dict
_INSERT_PHASES = insert(PhaseRow).from_select(
    _PHASE_NAMES, select(*(_PHASES.c[name] for name in _PHASE_NAMES)).order_by(_PHASES.c.seq)
)
_INSERT_EVENTS = insert(EventRow).from_select(
    _EVENT_NAMES, select(*(_EVENTS.c[name] for name in _EVENT_NAMES)).order_by(_EVENTS.c.seq)
)


@dataclass
class StageRecord:
    """A stage's row as it will stand when the transaction is flushed."""

    number: str
    stage: str
    agent: str
    group: str
    needs: tuple[str, ...]
    state: StageState
    attempt: int
    run_id: str | None
    starts: int
    started_at: datetime | None
    ended_at: datetime | None
    changes: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, row: RowMapping) -> "StageRecord":
        """The record of a row that has at least these columns."""
        return cls(
            row["number"],
            row["stage"],
            row["agent"],
            row["group"],
            tuple(row["needs"]),
            StageState(row["state"]),
            row["attempt"],
            row["run_id"],
            row["starts"],
            row["started_at"],
            row["ended_at"],
        )

    def set(self, **values: object) -> None:
        """Change columns of the row."""
        for name, value in values.items():
            setattr(self, name, value)
        self.changes.update(values)


STAGES = (
    select(
        StageRow.number,
        StageRow.stage,
        StageRow.agent,
        StageRow.group,
        StageRow.needs,
        StageRow.state,
        StageRow.attempt,
        StageRow.run_id,
        StageRow.starts,
        StageRow.started_at,
        StageRow.ended_at,
    )
    .where(StageRow.number == bindparam("number"))
    .order_by(StageRow.position)
)


class RequirementWrite:
    """Holds the requirement's row locked and collects what the transaction changes."""

    def __init__(self, connection: AsyncConnection, row: RowMapping) -> None:
        """Take the locked row; use `lock`."""
        self.connection = connection
        self.row = row
        self.number: str = row["number"]
        self.state = RequirementState(row["state"])
        self.at = datetime.now(UTC)
        self.stages: dict[str, StageRecord] = {}
        self._changes: dict[str, object] = {}
        self._phases: list[dict[str, object]] = []
        self._events: list[dict[str, object]] = []
        self._statements: list[Insert | Update] = []

    @classmethod
    async def lock(cls, connection: AsyncConnection, number: str) -> "RequirementWrite":
        """Begin with the requirement's row. Raises: UnknownRequirement."""
        row = (await connection.execute(_LOCK, {"number": number})).mappings().one_or_none()
        if row is None:
            raise UnknownRequirement(f"There is no requirement {number}.")
        return cls(connection, row)

    async def load_stages(self) -> Mapping[str, StageRecord]:
        """Every stage in the order of the plan, as of now: read after the lock was had."""
        rows = await self.connection.execute(STAGES, {"number": self.number})
        self.take_stages(StageRecord.of(row) for row in rows.mappings())
        return self.stages

    def take_stages(self, records: Iterable[StageRecord]) -> None:
        """Use rows that were read together with something else."""
        self.stages = {record.stage: record for record in records}

    def stage(self, name: str) -> StageRecord:
        """A loaded stage. Raises: UnknownRequirement."""
        try:
            return self.stages[name]
        except KeyError:
            raise UnknownRequirement(f"{self.number} has no stage {name!r}.") from None

    def move(self, target: RequirementState, *, who: str = ORCHESTRATOR, why: str = "") -> None:
        """Change the requirement's phase. Raises: IllegalTransition."""
        check_requirement_move(self.state, target)
        self._phase("", self.state, target, who, why)
        self.state = target
        self.set(state=str(target))

    def move_stage(
        self, stage: StageRecord, target: StageState, *, who: str = ORCHESTRATOR, why: str = ""
    ) -> None:
        """Change a stage's phase. Raises: IllegalTransition."""
        check_stage_move(stage.state, target)
        self._phase(stage.stage, stage.state, target, who, why)
        stage.set(state=target, reason=why)

    def set(self, **values: object) -> None:
        """Change columns of the requirement's row."""
        self._changes.update(values)

    def tell(
        self, scope: str, kind: EventType, fields: Mapping[str, object], *, occurrence: int = 1
    ) -> None:
        """Say that it happened, when the transaction commits. `scope` names who speaks."""
        self.emit(event(scope, kind, self.number, self.at, occurrence=occurrence, **fields))

    def emit(self, said: Event) -> None:
        """Send an event when the transaction commits."""
        self._events.append(
            {
                "seq": len(self._events),
                "number": said.number,
                "event_id": said.event_id,
                "type": str(said.type),
                "subject": said.subject,
                "payload": dict(said.payload),
                "created_at": self.at.isoformat(),
            }
        )

    def add(self, *statements: Insert | Update) -> None:
        """Write other rows. No two statements of one transaction may touch the same row."""
        self._statements.extend(statements)

    async def flush(self) -> None:
        """Send everything that was collected."""
        changes = {**self._changes, "updated_at": self.at}
        statements = [
            *self._statements,
            *(self._stage_update(stage) for stage in self.stages.values() if stage.changes),
            update(RequirementRow).where(RequirementRow.number == self.number).values(changes),
            _INSERT_PHASES,
        ]
        parts = [each.cte(f"write_{index}") for index, each in enumerate(statements)]
        await self.connection.execute(
            _INSERT_EVENTS.add_cte(*parts), {"phases": self._phases, "events": self._events}
        )

    def _stage_update(self, stage: StageRecord) -> Update:
        key = (StageRow.number == self.number) & (StageRow.stage == stage.stage)
        return update(StageRow).where(key).values(stage.changes)

    def _phase(self, stage: str, source: str, target: str, who: str, why: str) -> None:
        self._phases.append(
            {
                "seq": len(self._phases),
                "number": self.number,
                "stage": stage,
                "source": source,
                "target": target,
                "at": self.at.isoformat(),
                "who": who,
                "why": why,
            }
        )
