"""What an agent must be told: the deliverables before it, conditions, notes, failures."""

from dataclasses import replace

from sqlalchemy import any_, bindparam, or_, select

from adapters.sdlc.fix_context import load_fix_context
from adapters.sdlc.upstream import earlier_notice, load_upstream, notes_for, required_fixes
from adapters.sdlc.writing import LOCK, RequirementWrite
from adapters.sdlc_tables import FailureRow, RequirementRow, RunRow
from pipeline.model import StageContext, StageRequest
from pipeline.team import TEAM

LOCK_WITH_DESCRIPTION = LOCK.add_columns(RequirementRow.description)
"""Begins a transaction that `load_context` is part of: the long text is read with the lock."""

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
    if write.row["parent"] is not None:
        return await load_fix_context(write, request)
    name = request.stage.name
    records, upstream = await load_upstream(write, write.number, name)
    write.take_stages(records)
    context = StageContext(
        title=write.row["title"],
        description=write.row["description"],
        deliverables=upstream.deliverables,
        required_fixes=required_fixes(upstream, TEAM[request.stage.agent].role),
    )
    if request.attempt == 1 and not write.row["round"]:
        return context  # nothing has happened yet that it could be told
    return replace(
        context,
        notes=await notes_for(write.connection, write.number, name),
        failures=await _failures(write, request),
        earlier=await earlier_notice(write.connection, write.number, name),
    )


async def _failures(write: RequirementWrite, request: StageRequest) -> tuple[str, ...]:
    """What the last round reported to this agent, and how the stage's previous attempt ended."""
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
