"""`incidents`: what was wrong with the infrastructure, what Sasha did, how it ended."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from adapters.sdlc.views import IncidentView
from cli import output
from cli.connections import records
from cli.running import AsJson, load_settings, run
from pipeline.model import IncidentEnd
from settings import Settings

EXAMPLES = {
    "incidents": """
Examples:

  python starter.py incidents

  python starter.py incidents --limit 100 --json
"""
}

_STYLES = {
    IncidentEnd.PASSED: "dim",
    IncidentEnd.REPAIRED: "green",
    IncidentEnd.ESCALATED: "bold red",
    IncidentEnd.LEFT: "red",
}


def incidents(
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List what was wrong with the infrastructure, newest first.

    Also what Sasha did about it and how it ended.
    """
    found = run(_incidents(load_settings(), limit))
    if as_json:
        output.write_json({"incidents": [_document(incident) for incident in found]})
        return
    for incident in found:
        output.data().print(incident_text(incident), crop=False)
    if not found:
        output.say("There have been no incidents.")


async def _incidents(settings: Settings, limit: int) -> tuple[IncidentView, ...]:
    async with records(settings) as reader:
        return await reader.incidents(limit)


def _document(incident: IncidentView) -> dict[str, object]:
    lasted = incident.ended_at - incident.began_at
    return {**vars(incident), "seconds": round(lasted.total_seconds(), 3)}


def incident_text(incident: IncidentView) -> Text:
    """A line with time, length, place, alert and end; below it diagnosis, detail and attempts."""
    lasted = output.duration((incident.ended_at - incident.began_at).total_seconds())
    what = f"{incident.kind} {incident.subject}".rstrip()
    said = Text.assemble(
        f"{output.moment(incident.began_at)}  {lasted}  {place_name(incident.place)}  {what}  ",
        (str(incident.end), _STYLES[incident.end]),
    )
    for line in _lines(incident):
        said.append(f"\n    {output.plain(line)}")
    return output.unfolded(said)


def place_name(place: str) -> str:
    """A host; an empty name stands for the cluster."""
    return f"host {place}" if place else "cluster"


def _lines(incident: IncidentView) -> Iterator[str]:
    yield incident.diagnosis
    if incident.detail:
        yield output.first_line(incident.detail)
    for action in incident.actions:
        yield f"- {output.first_line(action)}"
    if number := incident.requirement:
        yield f"{number} asks a human: python starter.py status {number}"
