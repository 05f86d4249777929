"""What an agent must be told: the deliverables before it, conditions, notes, failures."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import RowMapping, Text, and_, any_, bindparam, cast, or_, select

from adapters.sdlc.writing import LOCK, STAGES, RequirementWrite, StageRecord
from adapters.sdlc_tables import FailureRow, NoteRow, RequirementRow, RunRow, StageRow
from pipeline.model import Deliverable, StageContext, StageRequest, StageState
from pipeline.team import TEAM, Role

_TOLD_OF_FIXES = (Role.IMPLEMENTATION, Role.QA)

_STAGES_AND_NOTICES = STAGES.add_columns(
    cast(RunRow.notice, Text).label("notice"), RunRow.required_fixes
).outerjoin(
    RunRow,
    and_(RunRow.run_id == StageRow.run_id, StageRow.state == str(StageState.COMPLETED)),
)
LOCK_WITH_DESCRIPTION = LOCK.add_columns(RequirementRow.description)
"""Begins a transaction that `load_context` is part of: the long text is read with the lock."""

_NOTES = (
    select(NoteRow.who, NoteRow.why)
    .where(
        NoteRow.number == bindparam("number"),
        NoteRow.why != "",
        bindparam("stage") == any_(NoteRow.stages),
    )
    .order_by(NoteRow.answer)
)
_ROUND_FAILURES = (
    select(FailureRow.gate, FailureRow.error)
    .where(
        FailureRow.number == bindparam("number"),
        FailureRow.round == bindparam("round"),
        or_(
            FailureRow.stage == bindparam("stage"),
            bindparam("agent") == any_(FailureRow.owners),
        ),
    )
    .order_by(FailureRow.seq)
)
_LAST_ERROR = select(RunRow.error).where(RunRow.run_id == bindparam("run_id"), RunRow.error != "")


async def load_context(write: RequirementWrite, request: StageRequest) -> StageContext:
    """Read the stages into the transaction, and with them what this stage builds on."""
    rows = await write.connection.execute(_STAGES_AND_NOTICES, {"number": write.number})
    known = {row["stage"]: row for row in rows.mappings()}
    write.take_stages(StageRecord.of(row) for row in known.values())
    upstream = [known[name] for name in _upstream(write.stages, request.stage.needs)]
    return StageContext(
        title=write.row["title"],
        description=write.row["description"],
        deliverables=tuple(_deliverables(upstream)),
        required_fixes=_required_fixes(upstream, TEAM[request.stage.agent].role),
        notes=await _notes(write, request),
        failures=await _failures(write, request),
    )


def _upstream(stages: Mapping[str, StageRecord], needs: Sequence[str]) -> list[str]:
    """Everything before the stage, transitively, in plan order."""
    found = set(needs)
    for name in reversed(tuple(stages)):
        if name in found:
            found.update(stages[name].needs)
    return [name for name in stages if name in found]


def _deliverables(upstream: Sequence[RowMapping]) -> Iterator[Deliverable]:
    for row in upstream:
        if row["notice"] is not None:
            yield Deliverable(row["stage"], row["agent"], row["notice"])


def _required_fixes(upstream: Sequence[RowMapping], role: Role) -> tuple[str, ...]:
    """The conditions of a critique that passed."""
    if role not in _TOLD_OF_FIXES:
        return ()
    critiques = (row for row in upstream if TEAM[row["agent"]].role is Role.CRITIQUE)
    return tuple(fix for row in critiques for fix in row["required_fixes"] or ())


async def _notes(write: RequirementWrite, request: StageRequest) -> tuple[str, ...]:
    if request.attempt == 1 and not write.row["round"]:
        return ()
    rows = await write.connection.execute(
        _NOTES, {"number": write.number, "stage": request.stage.name}
    )
    return tuple(f"{row.who}: {row.why}" for row in rows)


async def _failures(write: RequirementWrite, request: StageRequest) -> tuple[str, ...]:
    """What the last round reported to this agent, and how the stage's previous attempt ended."""
    if request.attempt == 1 and not write.row["round"]:
        return ()
    key = {
        "number": write.number,
        "round": write.row["round"],
        "stage": request.stage.name,
        "agent": request.stage.agent,
    }
    reported = list(await write.connection.execute(_ROUND_FAILURES, key))
    texts = [f"{row.gate}: {row.error}" for row in reported]
    previous = replace(request, attempt=request.attempt - 1)
    last = (await write.connection.execute(_LAST_ERROR, {"run_id": previous.run_id})).scalar()
    if last and last not in {row.error for row in reported}:
        texts.append(f"Attempt {previous.attempt}: {last}")
    return tuple(texts)
