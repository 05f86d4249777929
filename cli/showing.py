"""`status` and `list`: what the SDLC database says."""

from typing import Annotated

import typer

from adapters.sdlc_views import RequirementSummary, RequirementView
from cli import output
from cli.documents import status_document, summary_document
from cli.environment import load_settings
from cli.records import records
from cli.running import run
from cli.status_view import full_status, styled
from pipeline.model import RequirementState
from settings import Settings

EXAMPLES = {
    "status": """
Examples:

  python starter.py status REQ-101

  python starter.py status REQ-101 --json
""",
    "list": """
Examples:

  python starter.py list --waiting

  python starter.py list --state RUNNING --state BLOCKED --json
""",
}

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def status(
    req: Annotated[str, typer.Argument(help="The requirement's number.")], as_json: AsJson = False
) -> None:
    """Show where a requirement stands, why it waits, and what answers it."""
    view = run(_requirement(load_settings(), req))
    if as_json:
        output.write_json(status_document(view))
    else:
        output.data().print(full_status(view))


def list_requirements(
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what waits.")] = False,
    state: Annotated[
        list[RequirementState] | None, typer.Option("--state", help="Only these; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List requirements, newest first."""
    found = run(_requirements(load_settings(), tuple(state or ()), waiting=waiting))
    if as_json:
        output.write_json({"requirements": [summary_document(summary) for summary in found]})
        return
    rows = output.table("requirement", "priority", "state", "title", "waiting for", "since")
    for summary in found:
        rows.add_row(
            summary.number,
            summary.priority,
            styled(summary.state),
            output.plain(summary.title)[:60],
            summary.waiting_for,
            summary.updated_at.astimezone().strftime("%Y-%m-%d %H:%M"),
        )
    output.data().print(rows)


async def _requirement(settings: Settings, number: str) -> RequirementView:
    async with records(settings) as reader:
        return await reader.requirement(number)


async def _requirements(
    settings: Settings, states: tuple[RequirementState, ...], *, waiting: bool
) -> tuple[RequirementSummary, ...]:
    async with records(settings) as reader:
        return await reader.requirements(states=states, waiting=waiting)
