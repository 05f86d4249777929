"""`incidents`: what was wrong with the infrastructure, and what Sasha did about it."""

from typing import Annotated

import typer

from adapters.sdlc_views import IncidentView
from cli import output
from cli.connections import records
from cli.incidents_view import incident_document, incident_text
from cli.running import load_settings, run
from settings import Settings

EXAMPLES = {
    "incidents": """
Examples:

  python starter.py incidents

  python starter.py incidents --limit 100 --json
"""
}


def incidents(
    limit: Annotated[int, typer.Option("--limit", min=1, help="At most so many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List what was wrong with the infrastructure, newest first.

    What was done about it, and how it ended.
    """
    found = run(_incidents(load_settings(), limit))
    if as_json:
        output.write_json({"incidents": [incident_document(incident) for incident in found]})
        return
    for incident in found:
        output.data().print(incident_text(incident), crop=False)
    if not found:
        output.say("There was no incident so far.")


async def _incidents(settings: Settings, limit: int) -> tuple[IncidentView, ...]:
    async with records(settings) as reader:
        return await reader.incidents(limit)
