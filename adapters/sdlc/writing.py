"""One transaction on one requirement: what was moved, said and written.

Locking the requirement's row first makes two parallel closings see each other; everything after
that is collected and sent as one statement, so that a stage costs few trips.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Delete, Executable, Update, bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.batch import Batch
from adapters.sdlc.reads import Read, Rows, read_together
from adapters.sdlc_tables import Base, RequirementRow, StageRow
from pipeline.errors import UnknownRequirement
from pipeline.events import Event, EventType, event
from pipeline.model import ORCHESTRATOR, RequirementState, StageState
from pipeline.phases import check_requirement_move, check_stage_move

LOCK = (
    select(
        RequirementRow.number,
        RequirementRow.title,
        RequirementRow.priority,
        RequirementRow.parent,
        RequirementRow.state,
        RequirementRow.sequential,
        RequirementRow.host,
        RequirementRow.round,
        RequirementRow.workflow_run,
        RequirementRow.waiting_for,
        RequirementRow.created_at,
        RequirementRow.started_at,
    )
    .where(RequirementRow.number == bindparam("number"))
    .with_for_update()
)
"""The columns that every transaction needs."""

STAGES = (
    select(
        StageRow.number,
        StageRow.stage,
        StageRow.agent,
        StageRow.group,
        StageRow.needs,
        StageRow.state,
        StageRow.attempt,
        StageRow.resumed,
        StageRow.run_id,
        StageRow.started_at,
        StageRow.ended_at,
        StageRow.queued_at,
    )
    .where(StageRow.number == bindparam("number"))
    .order_by(StageRow.position)
)
"""What a `StageRecord` is made of."""


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
    resumed: int
    run_id: str | None
    started_at: datetime | None
    ended_at: datetime | None
    queued_at: datetime | None
    changes: dict[str, object] = field(default_factory=dict)

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "StageRecord":
        """The record of a row that has at least these columns."""
        return cls(
            row["number"],
            row["stage"],
            row["agent"],
            row["group"],
            tuple(row["needs"]),
            StageState(row["state"]),
            row["attempt"],
            row["resumed"],
            row["run_id"],
            row["started_at"],
            row["ended_at"],
            row["queued_at"],
        )

    def set(self, **values: object) -> None:
        """Change columns of the row."""
        for name, value in values.items():
            setattr(self, name, value)
        self.changes.update(values)


class RequirementWrite:
    """Holds the requirement's row locked and collects what the transaction changes."""

    def __init__(
        self,
        connection: AsyncConnection,
        row: Mapping[str, Any],
        ahead: Sequence[tuple[Read, Rows]],
    ) -> None:
        """Take the locked row; use `lock`."""
        self.connection = connection
        self.row = row
        self.number: str = row["number"]
        self.state = RequirementState(row["state"])
        self.at = datetime.now(UTC)
        self.stages: dict[str, StageRecord] = {}
        self.holds_begun: dict[str, int] = {}
        """The last occurrence that this transaction has given to a hold, by boundary."""
        self._ahead = list(ahead)
        self._changes: dict[str, object] = {"updated_at": self.at}
        self._batch = Batch(self.at)

    @classmethod
    async def lock(
        cls,
        connection: AsyncConnection,
        number: str,
        *ahead: Read,
        statement: Executable = LOCK,
    ) -> "RequirementWrite":
        """Begin with the requirement's row.

        What `read` is going to be asked for in any case is read `ahead`, in the same trip.

        Raises: UnknownRequirement.
        """
        rows, *found = await read_together(connection, (statement, {"number": number}), *ahead)
        if not rows:
            raise UnknownRequirement(f"There is no requirement {number}.")
        return cls(connection, rows[0], list(zip(ahead, found, strict=True)))

    async def read(self, statement: Executable, **values: object) -> Rows:
        """The rows of a statement, read ahead or now."""
        for ahead in self._ahead:
            (read, known), rows = ahead
            if read is statement and known == values:
                self._ahead.remove(ahead)  # what is asked again is to be read again
                return rows
        (rows,) = await read_together(self.connection, (statement, values))
        return rows

    async def load_stages(self) -> None:
        """Read every stage in the order of the plan, as of now: after the lock was had."""
        rows = await self.read(STAGES, number=self.number)
        self.take_stages(map(StageRecord.of, rows))

    def take_stages(self, records: Iterable[StageRecord]) -> None:
        """Use rows that were read together with something else."""
        self.stages = {record.stage: record for record in records}

    def stage(self, name: str) -> StageRecord:
        """A loaded stage. Raises: UnknownRequirement."""
        try:
            return self.stages[name]
        except KeyError:
            raise UnknownRequirement(f"{self.number} has no stage {name!r}.") from None

    # --- what the transaction changes -------------------------------------------------------

    def move(self, target: RequirementState, *, who: str = ORCHESTRATOR, why: str = "") -> None:
        """Change the requirement's phase. Raises: IllegalTransition."""
        check_requirement_move(self.state, target)
        self._record_phase("", self.state, target, who, why)
        self.state = target
        self.set(state=target)

    def move_stage(
        self, stage: StageRecord, target: StageState, *, who: str = ORCHESTRATOR, why: str = ""
    ) -> None:
        """Change a stage's phase; it waits for no slot any more. Raises: IllegalTransition."""
        check_stage_move(stage.state, target)
        self._record_phase(stage.stage, stage.state, target, who, why)
        stage.set(state=target, reason=why, queued_at=None)

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
        self._batch.event(said)

    def insert(self, table: type[Base], **values: object) -> None:
        """A new row of this requirement."""
        self._batch.insert(table, {"number": self.number, **values})

    def update(self, table: type[Base], key: Mapping[str, object], **values: object) -> None:
        """Columns of the row with that key."""
        self._batch.update(table, key, values)

    def update_all(self, *statements: Update | Delete) -> None:
        """Columns of every row that such a statement finds; or the rows themselves."""
        self._batch.add(*statements)

    async def flush(self) -> None:
        """Send everything that was collected; where nothing was, nothing has changed."""
        key = {"number": self.number}
        for stage in self.stages.values():
            if stage.changes:
                self.update(StageRow, {**key, "stage": stage.stage}, **stage.changes)
        if self._batch.is_empty and self._changes.keys() == {"updated_at"}:
            return
        self.update(RequirementRow, key, **self._changes)
        await self._batch.execute(self.connection)

    def _record_phase(self, stage: str, source: str, target: str, who: str, why: str) -> None:
        self._batch.phase(
            {
                "number": self.number,
                "stage": stage,
                "source": source,
                "target": target,
                "at": self.at.isoformat(),
                "who": who,
                "why": why,
            }
        )
