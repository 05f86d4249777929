"""How fixes, and questions to a human, look to people."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from adapters.sdlc_views import EscalationView, FixView, RequirementView
from cli import output
from pipeline.model import Ask
from pipeline.steering import addressed


def fixes_part(fixes: Sequence[FixView]) -> RenderableType:
    """The fixes in a table, and what those that have ended say."""
    ended = [fix for fix in fixes if fix.state.is_final]
    said = [output.plain(f"{fix.number}: {output.first_line(fix.reason)}") for fix in ended]
    return Group(_table(fixes), *said)


def question(view: RequirementView, escalation: EscalationView) -> Iterator[RenderableType]:
    """What a human is asked, and the commands that answer."""
    reminded = f", reminders: {escalation.reminders}" if escalation.reminders else ""
    yield f"Asked since {output.since(escalation.created_at, datetime.now(UTC))}{reminded}:"
    for ask in escalation.asks:
        yield f"  {ask_line(ask)}"
    yield "Possible answers:"
    for answer in escalation.answers:
        yield output.unfolded(Text(f"  python starter.py {addressed(answer, view.number)}"))


def ask_line(ask: Ask) -> str:
    """What is red, and why a human must see to it; most reasons name it."""
    is_named = ask.gate in ask.reason or ask.stage in ask.reason
    return output.plain(ask.reason if is_named else f"{ask.gate}: {ask.reason}")


def _table(fixes: Sequence[FixView]) -> Table:
    rows = output.table(
        "fix", "owner", "gate", "depth", "state", numbers=("depth",), fold=("gate",)
    )
    for fix in fixes:
        rows.add_row(fix.number, fix.assignee, fix.gate, str(fix.depth), output.styled(fix.state))
    return rows
