"""How an incident of the infrastructure looks to people: a line, and below it what was done."""

from collections.abc import Iterator

from rich.text import Text

from adapters.sdlc.views import IncidentView
from cli import output
from pipeline.model import IncidentEnd

_STYLES = {
    IncidentEnd.PASSED: "dim",
    IncidentEnd.REPAIRED: "green",
    IncidentEnd.ESCALATED: "bold red",
    IncidentEnd.LEFT: "red",
}


def incident_document(incident: IncidentView) -> dict[str, object]:
    """What `--json` says of it."""
    lasted = incident.ended_at - incident.began_at
    return {**vars(incident), "seconds": round(lasted.total_seconds(), 3)}


def incident_text(incident: IncidentView) -> Text:
    """When, how long, where, what, how it ended; then diagnosis, detail and each attempt."""
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
    """A host, or the house."""
    return f"host {place}" if place else "house"


def _lines(incident: IncidentView) -> Iterator[str]:
    yield incident.diagnosis
    if incident.detail:
        yield output.first_line(incident.detail)
    for action in incident.actions:
        yield f"- {output.first_line(action)}"
    if number := incident.requirement:
        yield f"{number} stands for it: python starter.py status {number}"
