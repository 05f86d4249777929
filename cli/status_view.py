"""How a requirement's status looks to people."""

from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapters.sdlc_views import FailureView, GateView, RequirementView, StageView
from cli import output
from cli.holds_view import (
    hold_lines,
    leftover_line,
    past_hold_lines,
    queued_line,
    retry_lines,
    stands_still,
)
from cli.repairs_view import fixes_part, question
from pipeline.model import StageState

_ERROR_LINES = 15


def overview(view: RequirementView) -> RenderableType:
    """The requirement in a line, its stages and fixes, the reasons of what was not done."""
    stages = [_stages_table(view)] if view.stages else []
    reasons = [_reason(stage) for stage in view.stages if _has_reason(stage)]
    reasons += [_remark(stage, each) for stage in view.stages for each in stage.remarks]
    fixes = [fixes_part(view.fixes)] if view.fixes else []
    waits = (*map(queued_line, view.queued), *hold_lines(view))
    holds = (output.unfolded(Text(line)) for line in waits)
    said = [*retry_lines(view.retries, view.number)]
    said += [leftover_line(view.leftover)] if view.leftover else []
    shown = (output.unfolded(Text(line)) for line in said)
    return Group(*_headlines(view), *stages, *reasons, *fixes, *holds, *shown)


def full_status(view: RequirementView) -> RenderableType:
    """Stages, fixes, gates and the report."""
    gates = [_gates_table(view)] if view.gates else []
    past = map(Text, past_hold_lines(view))
    return Group(overview(view), *gates, *past, report(view))


def report(view: RequirementView) -> RenderableType:
    """All failures, what the requirement waits for, what is asked and what answers it."""
    parts: list[RenderableType] = [failure_text(failure) for failure in view.failures]
    # while it is blocked or held, the failures and holds say it better
    if view.reason and (view.state.is_final or not (view.failures or view.holds)):
        parts.append(output.plain(view.reason))
    if view.waiting_for:
        parts.append(f"Waiting for: {view.waiting_for}")
    if view.escalation:
        parts += question(view, view.escalation)
    return Group(*parts)


def failure_text(failure: FailureView) -> Text:
    """What is red, whose it is, and the first of what it says."""
    owners = ", ".join(failure.owners) or "nobody"
    lines = output.plain(failure.error).splitlines()
    shown = [*lines[:_ERROR_LINES], *(["…"] if len(lines) > _ERROR_LINES else [])]
    if failure.log_reference:
        shown.append(f"log: {failure.log_reference}")
    body = "".join(f"\n    {line}" for line in shown)
    title = Text.assemble(("❌ ", "red"), (failure.gate, "bold"), f" ({owners})")
    return output.unfolded(title.append(body))


def _stages_table(view: RequirementView) -> Table:
    rows = output.table(
        "stage", "agent", "state", "attempt", "starts", "start", "took",
        numbers=("attempt", "starts", "took"), fold=("stage",),
    )  # fmt: skip
    queued = {each.stage for each in view.queued}
    for stage in view.stages:
        waits = "queued" if stage.stage in queued else ""
        waits = "stands still" if stands_still(stage, view) else waits
        rows.add_row(
            stage.stage,
            stage.agent,
            Text(waits, "yellow") if waits else output.styled(stage.state),
            str(stage.attempt or ""),
            str(stage.starts or ""),
            output.clock(stage.started_at),
            _duration(stage),
        )
    return rows


def _headlines(view: RequirementView) -> Iterator[Text]:
    rest = f" {view.priority} {output.plain(view.title)} ({view.pipeline}, {view.mode})"
    yield Text.assemble(f"{view.number} ", output.styled(view.state), rest)
    if view.parent:
        yield Text(f"A fix by {view.assignee}; it repairs {view.parent}.")


def _has_reason(stage: StageView) -> bool:
    """A stage that is held has none of its own: the hold says more."""
    return bool(stage.reason) and stage.state is not StageState.HELD


def _reason(stage: StageView) -> str:
    """Beside the table: there it would squeeze all else on a terminal of 80 columns."""
    return f"{stage.stage} {stage.state}: {output.plain(output.first_line(stage.reason))}"


def _remark(stage: StageView, remark: str) -> str:
    return f"{stage.stage}: {output.plain(output.first_line(remark))}"


def _gates_table(view: RequirementView) -> Table:
    rows = output.table("gate", "verdict", "commit", "what ran", "at")
    for gate in view.gates:
        verdict = Text(gate.verdict, style="green" if gate.verdict == "green" else "bold red")
        ran, ended_at = _what_ran(gate), output.clock(gate.ended_at)
        rows.add_row(gate.gate, verdict, gate.commit[:10], ran, ended_at)
    return rows


def _what_ran(gate: GateView) -> str:
    """Of a build: whether it was clean, and how long each of its commands took."""
    if gate.clean is None:
        return ""
    steps = (f"{step['name']} {float(str(step['seconds'])):.1f} s" for step in gate.steps)
    return ", ".join(("clean" if gate.clean else "incremental", *steps))


def _duration(stage: StageView) -> str:
    if not stage.started_at:
        return ""
    end = stage.ended_at or datetime.now(UTC)
    return output.duration(max(0.0, (end - stage.started_at).total_seconds()))
