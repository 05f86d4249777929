"""What the agent of a fix must be told: the task, its own work, what failed, what was tried."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import RowMapping, bindparam, select
from sqlalchemy.orm import aliased

from adapters.sdlc.upstream import earlier_notice, load_upstream, notes_for, required_fixes
from adapters.sdlc.writing import RequirementWrite
from adapters.sdlc_tables import FixRow, RequirementRow, RunRow
from pipeline.model import StageContext, StageRequest
from pipeline.team import TEAM

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
    )
    .join(_ROOT, _ROOT.number == FixRow.root)
    .where(FixRow.number == bindparam("number"))
)
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
    return StageContext(
        title=fix["title"],
        description=fix["description"],
        deliverables=upstream.deliverables,
        required_fixes=required_fixes(upstream, TEAM[request.stage.agent].role),
        notes=await notes_for(write.connection, fix["root"], fix["stage"]),
        failures=(_failure_text(fix["failure"]),),
        earlier=await earlier_notice(write.connection, fix["root"], fix["stage"]),
        repairs=fix["root"],
        tried=await _tried(write, fix),
    )


def _failure_text(failure: Mapping[str, Any]) -> str:
    lines = [f"{failure['gate']} is red: {failure['error']}"]
    if failure["commit"]:
        lines.append(f"Commit: {failure['commit']}")
    if failure["log_reference"]:
        lines.append(f"Log: {failure['log_reference']}")
    return "\n".join(lines)


async def _tried(write: RequirementWrite, fix: RowMapping) -> tuple[str, ...]:
    key = {"root": fix["root"], "gate": fix["gate"]}
    return tuple(
        f"{row.number}: {row.summary or row.error[:_TRIED_ERROR_LENGTH]}"
        for row in await write.connection.execute(_TRIED, key)
        if row.summary or row.error
    )
