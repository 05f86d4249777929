"""What an agent is told: the deliverables before it, conditions, notes, failures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import RowMapping, Text, and_, any_, bindparam, cast, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from adapters.sdlc.tables import FailureRow, FixRow, NoteRow, RequirementRow, RunRow, StageRow
from adapters.sdlc.transaction import LOCK, LOOK, STAGES, RequirementWrite, Rows, StageRecord
from pipeline.model import (
    Deliverable,
    FailureLog,
    HandingRun,
    Pipeline,
    StageContext,
    StageRequest,
    StageState,
)
from pipeline.preparation import GATE
from pipeline.team import Agent, Role

PLAN = TypeAdapter(Pipeline)
"""A plan as it stands in a requirement's row."""

_TOLD_OF_FIXES = (Role.IMPLEMENTATION, Role.QA)

STAGES_AND_NOTICES = STAGES.add_columns(
    cast(RunRow.notice, Text).label("notice"),
    RunRow.required_fixes,
    RunRow.host.label("run_host"),
).outerjoin(
    RunRow,
    and_(RunRow.run_id == StageRow.run_id, StageRow.state == str(StageState.COMPLETED)),
)
_EARLIER = (
    select(cast(RunRow.notice, Text).label("notice"), RunRow.run_id, RunRow.host)
    .where(
        RunRow.number == bindparam("number"),
        RunRow.stage == bindparam("stage"),
        RunRow.notice.is_not(None),
    )
    .order_by(RunRow.attempt.desc())
    .limit(1)
)

_MOST_FIXES = 20
"""Fixes whose documents are handed on, the latest ones."""
_FIX_RUNS = (
    select(RunRow.run_id, RunRow.host, RunRow.agent, RunRow.number)
    .join(FixRow, FixRow.number == RunRow.number)
    .where(FixRow.root == bindparam("root"), RunRow.notice.is_not(None))
    .order_by(RunRow.opened_at.desc(), RunRow.run_id)
    .limit(_MOST_FIXES)
)

_NOTES = (
    select(NoteRow.who, NoteRow.why)
    .where(
        NoteRow.number == bindparam("number"),
        NoteRow.why != "",
        bindparam("stage") == any_(NoteRow.stages),
    )
    .order_by(NoteRow.answer)
)


@dataclass(frozen=True)
class Upstream:
    """Everything before a stage, transitively, in plan order."""

    rows: Rows

    @property
    def deliverables(self) -> tuple[Deliverable, ...]:
        """The notices of completed stages."""
        return tuple(
            Deliverable(row["stage"], row["agent"], row["notice"])
            for row in self.rows
            if row["notice"] is not None
        )

    @property
    def runs(self) -> tuple[HandingRun, ...]:
        """The runs of completed stages, which may have documents for those after them."""
        return tuple(
            HandingRun(row["run_id"], row["run_host"] or "", f"{row['stage']} ({row['agent']})")
            for row in self.rows
            if row["notice"] is not None
        )


async def load_upstream(
    write: RequirementWrite, number: str, stage: str
) -> tuple[tuple[StageRecord, ...], Upstream]:
    """Every stage of a requirement, and what stands before that one."""
    rows = await write.read(STAGES_AND_NOTICES, number=number)
    known: dict[str, Mapping[str, Any]] = {row["stage"]: row for row in rows}
    records = {name: StageRecord.of(row) for name, row in known.items()}
    names = _before(records, records[stage].needs)
    return tuple(records.values()), Upstream([known[name] for name in names])


def required_fixes(upstream: Upstream, agent: Agent, plan: Pipeline) -> tuple[str, ...]:
    """The conditions of a critique that passed, for those who must meet or check them."""
    if agent.role not in _TOLD_OF_FIXES:
        return ()
    critiques = {stage.name for stage in plan.stages if stage.member.role == Role.CRITIQUE}
    passed = (row for row in upstream.rows if row["stage"] in critiques)
    return tuple(fix for row in passed for fix in row["required_fixes"] or ())


async def earlier_work(
    connection: AsyncConnection, number: str, stage: str
) -> tuple[str, tuple[HandingRun, ...]]:
    """The latest accepted notice of a stage as JSON text, and its run; empty if there is none."""
    found = await connection.execute(_EARLIER, {"number": number, "stage": stage})
    row = found.mappings().first()
    if row is None:
        return "", ()
    run = HandingRun(row["run_id"], row["host"] or "", f"your earlier work on {stage}")
    return str(row["notice"]), (run,)


async def runs_of_fixes(connection: AsyncConnection, root: str) -> tuple[HandingRun, ...]:
    """The latest fixes of a requirement that gave a notice, which may have documents."""
    rows = (await connection.execute(_FIX_RUNS, {"root": root})).mappings().all()
    return tuple(
        HandingRun(row["run_id"], row["host"] or "", f"{row['number']} ({row['agent']})")
        for row in reversed(rows)
    )


def _owners(plan: Pipeline) -> Mapping[str, str]:
    """Who answers for each build of a plan, in its order."""
    owners: dict[str, str] = {}
    for build, owner in plan.owners:
        owners.setdefault(build, owner)
    return owners


async def notes_for(connection: AsyncConnection, number: str, stage: str) -> tuple[str, ...]:
    """What people, or the orchestrator, have said to a stage of a requirement."""
    rows = await connection.execute(_NOTES, {"number": number, "stage": stage})
    return tuple(f"{row.who}: {row.why}" for row in rows)


def _before(stages: Mapping[str, StageRecord], needs: Sequence[str]) -> list[str]:
    found = set(needs)
    for name in reversed(tuple(stages)):
        if name in found:
            found.update(stages[name].needs)
    return [name for name in stages if name in found]


# --- a stage of a requirement ---------------------------------------------------------------------

_TEXTS = (RequirementRow.description, RequirementRow.plan)
_LOOK_WITH_DESCRIPTION = LOOK.add_columns(*_TEXTS)
LOCK_WITH_DESCRIPTION = LOCK.add_columns(*_TEXTS)
"""Begins a transaction that `load_context` is part of: the long texts are read with the lock."""

_ROUND_FAILURES = (
    select(FailureRow.gate, FailureRow.error, FailureRow.log_reference)
    .where(
        FailureRow.number == bindparam("number"),
        FailureRow.round == bindparam("round"),
        or_(
            # What kept it from its start is not its to repair, unless it owns that.
            and_(FailureRow.stage == bindparam("stage"), FailureRow.gate.not_like(f"{GATE}%")),
            bindparam("agent") == any_(FailureRow.owners),
        ),
    )
    .order_by(FailureRow.seq)
)
_LAST_ERROR = select(RunRow.error, RunRow.log_reference).where(
    RunRow.run_id == bindparam("run_id"), RunRow.error != "", RunRow.starts > 0
)


async def look_at_context(connection: AsyncConnection, request: StageRequest) -> StageContext:
    """What the agent would be told of the requirement now; nothing is locked or written.

    Raises: UnknownRequirement.
    """
    statement = _LOOK_WITH_DESCRIPTION
    write = await RequirementWrite.lock(connection, request.ref.number, statement=statement)
    return await load_context(write, request)


async def load_context(write: RequirementWrite, request: StageRequest) -> StageContext:
    """Read the stages into the transaction, and with them what this stage builds on."""
    if write.row["parent"] is not None:
        return await load_fix_context(write, request)
    name = request.stage.name
    records, upstream = await load_upstream(write, write.number, name)
    write.take_stages(records)
    plan = PLAN.validate_python(write.row["plan"]["pipeline"])
    context = StageContext(
        title=write.row["title"],
        description=write.row["description"],
        deliverables=upstream.deliverables,
        required_fixes=required_fixes(upstream, request.stage.member, plan),
        owners=_owners(plan),
        handed=upstream.runs,
    )
    if request.attempt == 1 and not write.row["round"]:
        return context  # nothing has happened yet that it could be told
    failures, logs = await _failures(write, request)
    earlier, own = await earlier_work(write.connection, write.number, name)
    fixes = await runs_of_fixes(write.connection, write.number)
    return replace(
        context,
        notes=await notes_for(write.connection, write.number, name),
        failures=failures,
        earlier=earlier,
        handed=(*context.handed, *own, *fixes),
        logs=logs,
    )


async def _failures(
    write: RequirementWrite, request: StageRequest
) -> tuple[tuple[str, ...], tuple[FailureLog, ...]]:
    """What the last round reported to this agent, and how the stage's previous attempt ended."""
    key = {
        "number": write.number,
        "round": write.row["round"],
        "stage": request.stage.name,
        "agent": request.stage.agent,
    }
    reported = list(await write.connection.execute(_ROUND_FAILURES, key))
    told = [(row.gate, row.error, row.log_reference) for row in reported]
    previous = replace(request, attempt=request.attempt - 1)
    last = (await write.connection.execute(_LAST_ERROR, {"run_id": previous.run_id})).first()
    if last and last.error not in {row.error for row in reported}:
        told.append((f"Attempt {previous.attempt}", last.error, last.log_reference))
    logs = tuple(FailureLog(gate, log) for gate, _, log in told if log)
    return tuple(f"{gate}: {error}" for gate, error, _ in told), logs


# --- a fix: the task, its own work, what failed, what was tried -----------------------------------

_TRIED_ERROR_LENGTH = 1_000

_ROOT = aliased(RequirementRow)
_FIX = (
    select(
        FixRow.root,
        FixRow.stage,
        FixRow.gate,
        FixRow.failure,
        _ROOT.title,
        _ROOT.description,
        _ROOT.plan,
    )
    .join(_ROOT, _ROOT.number == FixRow.root)
    .where(FixRow.number == bindparam("number"))
)
_REPAIRED = (
    select(RunRow.run_id)
    .where(
        RunRow.number == bindparam("root"),
        RunRow.stage == bindparam("stage"),
        RunRow.agent == bindparam("agent"),
        RunRow.session != "",
        RunRow.closed_at.is_not(None),
    )
    .order_by(RunRow.attempt.desc())
    .limit(1)
)
"""The latest run of the stage that a fix repairs, by the fix's own agent."""
_TRIED = (
    select(FixRow.number, RunRow.summary, RunRow.error)
    .join(RunRow, RunRow.number == FixRow.number)
    .where(
        FixRow.root == bindparam("root"),
        FixRow.gate == bindparam("gate"),
        RunRow.closed_at.is_not(None),
    )
    .order_by(RunRow.opened_at, RunRow.run_id)
)


async def load_fix_context(write: RequirementWrite, request: StageRequest) -> StageContext:
    """Read it for a fix whose row is locked; the stages of the fix are loaded with it."""
    await write.load_stages()
    fix = (await write.connection.execute(_FIX, {"number": write.number})).mappings().one()
    _, upstream = await load_upstream(write, fix["root"], fix["stage"])
    earlier, own = await earlier_work(write.connection, fix["root"], fix["stage"])
    plan = PLAN.validate_python(fix["plan"]["pipeline"])
    failure = fix["failure"]
    log = failure["log_reference"]
    whose = {"root": fix["root"], "stage": fix["stage"], "agent": request.stage.agent}
    repaired = await write.connection.execute(_REPAIRED, whose)
    return StageContext(
        title=fix["title"],
        description=fix["description"],
        deliverables=upstream.deliverables,
        required_fixes=required_fixes(upstream, request.stage.member, plan),
        notes=await notes_for(write.connection, fix["root"], fix["stage"]),
        failures=(_failure_text(failure),),
        earlier=earlier,
        repairs=fix["root"],
        tried=await _tried(write, fix),
        owners=_owners(plan),
        handed=(
            *upstream.runs,
            *own,
            *await runs_of_fixes(write.connection, fix["root"]),
        ),
        logs=(FailureLog(failure["gate"], log),) if log else (),
        continues=str(repaired.scalar() or ""),
    )


def _failure_text(failure: Mapping[str, Any]) -> str:
    lines = [f"{failure['gate']} is red: {failure['error']}"]
    if failure["commit"]:
        lines.append(f"Commit: {failure['commit']}")
    return "\n".join(lines)


async def _tried(write: RequirementWrite, fix: RowMapping) -> tuple[str, ...]:
    key = {"root": fix["root"], "gate": fix["gate"]}
    return tuple(
        f"{row.number}: {row.summary or row.error[:_TRIED_ERROR_LENGTH]}"
        for row in await write.connection.execute(_TRIED, key)
        if row.summary or row.error
    )
