"""How a requirement's status looks to people."""

import shlex
from collections.abc import Iterator
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapters.sdlc_views import FailureView, RequirementView, StageView
from cli import output
from pipeline.model import FailureKind, RequirementState, StageState

HUMAN = "human"
"""What a requirement waits for that only an answer can bring on."""

_ERROR_LINES = 15
_STYLES = {
    StageState.RUNNING: "cyan",
    StageState.COMPLETED: "green",
    StageState.SKIPPED: "dim",
    StageState.FAILED: "bold red",
    StageState.BLOCKED: "red",
    RequirementState.RUNNING: "cyan",
    RequirementState.DELIVERED: "bold green",
    RequirementState.FAILED: "bold red",
    RequirementState.BLOCKED: "bold red",
}


def stages_table(view: RequirementView) -> RenderableType:
    """The requirement in a line, its stages in a table, the reasons of what was not done."""
    rows = output.table(
        "stage", "agent", "state", "attempt", "starts", "start", "end", "duration",
        numbers=("attempt", "starts", "duration"),
    )  # fmt: skip
    for stage in view.stages:
        rows.add_row(
            stage.stage,
            stage.agent,
            styled(stage.state),
            str(stage.attempt or ""),
            str(stage.starts or ""),
            output.clock(stage.started_at),
            output.clock(stage.ended_at),
            _duration(stage),
        )
    reasons = [_reason(stage) for stage in view.stages if stage.reason]
    return Group(_headline(view), rows, *reasons)


def full_status(view: RequirementView) -> RenderableType:
    """Stages, gates and the report."""
    gates = [_gates_table(view)] if view.gates else []
    return Group(stages_table(view), *gates, report(view))


def report(view: RequirementView) -> RenderableType:
    """All failures, what the requirement waits for and the commands that answer it."""
    parts: list[RenderableType] = [_failure(failure) for failure in view.failures]
    if view.reason and not view.failures:
        parts.append(output.plain(view.reason))
    if view.waiting_for:
        parts.append(f"Waiting for: {view.waiting_for}")
    parts += [f"  {command}" for command in answers(view)]
    return Group(*parts)


def answers(view: RequirementView) -> Iterator[str]:
    """The commands that a blocked requirement can be answered with."""
    if view.state is not RequirementState.BLOCKED or view.waiting_for != HUMAN:
        return
    decide = f"python starter.py decide {view.number}"
    if any(failure.kind is FailureKind.CRITIQUE for failure in view.failures):
        yield f"{decide} approve"
        yield f"{decide} request-changes --note …"
    for stage in dict.fromkeys(failure.stage for failure in view.failures):
        yield f"python starter.py retry {view.number} {shlex.quote(stage)}"
    yield f"{decide} abort"


def styled(state: StageState | RequirementState) -> Text:
    """A state in its colour."""
    return Text(str(state), style=_STYLES.get(state, ""))


def _headline(view: RequirementView) -> Text:
    rest = f" {view.priority} {output.plain(view.title)} ({view.pipeline}, {view.mode})"
    return Text.assemble(f"{view.number} ", styled(view.state), rest)


def _reason(stage: StageView) -> str:
    """Beside the table: there it would squeeze all else on a terminal of 80 columns."""
    return f"{stage.stage} {stage.state}: {output.plain(stage.reason.partition(chr(10))[0])}"


def _gates_table(view: RequirementView) -> Table:
    rows = output.table("gate", "verdict", "commit", "at")
    for gate in view.gates:
        verdict = Text(gate.verdict, style="green" if gate.verdict == "green" else "bold red")
        rows.add_row(gate.gate, verdict, gate.commit[:10], output.clock(gate.ended_at))
    return rows


def _failure(failure: FailureView) -> Text:
    owners = ", ".join(failure.owners) or "nobody"
    lines = output.plain(failure.error).splitlines()
    shown = [*lines[:_ERROR_LINES], *(["…"] if len(lines) > _ERROR_LINES else [])]
    if failure.log_reference:
        shown.append(f"log: {failure.log_reference}")
    body = "".join(f"\n    {line}" for line in shown)
    return Text.assemble(("❌ ", "red"), (failure.gate, "bold"), f" ({owners}){body}")


def _duration(stage: StageView) -> str:
    if not stage.started_at:
        return ""
    end = stage.ended_at or datetime.now(UTC)
    return output.duration(max(0.0, (end - stage.started_at).total_seconds()))
