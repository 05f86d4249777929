"""`list`: the requirements, or only those that wait, for whom and why."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated

import typer
from rich.table import Table

from adapters.sdlc.views import ListedRequirement
from cli import output
from cli.connections import records
from cli.hints import (
    Hints,
    answer_of_sasha,
    broken_agents_file,
    is_under_way,
    missing_dependency,
    missing_worker,
    wrong_installation,
)
from cli.inputs import other_project
from cli.running import AsJson, load_settings, run
from cli.status import (
    ask_line,
    build_document,
    building_line,
    cost_document,
    lasted,
    pause_lines,
    queued_line,
    retry_document,
    retry_lines,
)
from pipeline.costs import amount
from pipeline.model import RequirementState
from settings import Settings

EXAMPLES = {
    "list": """
Examples:

  python starter.py list --waiting

  python starter.py list --state RUNNING --state BLOCKED --json
"""
}

_TITLE_LENGTH = 60
_LATER_SECONDS = 0.2
"""How much longer than the rows the hints may take: the list appears as fast as its rows do."""


def list_requirements(
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only those that wait: for whom, since when, why.")
    ] = False,
    state: Annotated[
        list[RequirementState] | None, typer.Option("--state", help="Only these; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List requirements, newest first."""
    settings = load_settings()
    found, hints = run(_requirements(settings, tuple(state or ()), waiting=waiting))
    if as_json:
        output.write_json({"requirements": [_document(each) for each in found], **asdict(hints)})
        return
    output.data().print(_table(found, settings, waiting=waiting))
    hints.write()


async def _requirements(
    settings: Settings, states: tuple[RequirementState, ...], *, waiting: bool
) -> tuple[tuple[ListedRequirement, ...], Hints]:
    """The rows, and the hints, which are asked for while the rows are read."""
    began = monotonic()
    hint = asyncio.create_task(answer_of_sasha(settings))
    stranger = asyncio.create_task(wrong_installation(settings))
    try:
        async with records(settings) as reader:
            found = await reader.requirements(states=states, waiting=waiting)
            installation = await reader.installation()
        whose = installation.id if installation else None
        open_ones = [each for each in found if is_under_way(each.state)]
        numbers = [each.number for each in open_ones]
        # a requirement that waits for a dependency has no row that says so
        if not (numbers or waiting):
            return found, Hints(whose)
        # as long again as the rows took, in case the machine is slow
        await asyncio.wait({hint, stranger}, timeout=max(_LATER_SECONDS, monotonic() - began))
        missing = missing_dependency(hint.result() if hint.done() else None, numbers)
        wrong = stranger.result() if stranger.done() else ""
        hosts = [each.host for each in open_ones]
        idle, broken = missing_worker(settings, hosts), broken_agents_file(settings, hosts)
        return found, Hints(whose, missing, wrong, idle, broken)
    finally:
        hint.cancel()
        stranger.cancel()


def _document(listed: ListedRequirement) -> Mapping[str, object]:
    fields = asdict(listed)
    retries = [retry_document(retry) for retry in listed.retries]
    building = [build_document(build) for build in listed.building]
    fields.pop("cost")
    number, cost = fields.pop("number"), cost_document(listed.cost)
    return {"req_number": number, **fields, "retries": retries, "building": building, **cost}


def _table(found: Sequence[ListedRequirement], settings: Settings, *, waiting: bool) -> Table:
    """A row each; its last column is why it waits, or else its title.

    The project is told if it is another one than that of the settings.
    """
    last = "why" if waiting else "title"
    costs = ("cost",) if any(each.cost.is_known for each in found) else ()
    projects = {each.number: other_project(settings, each) for each in found}
    elsewhere = ("project",) if any(projects.values()) else ()
    rows = output.table(
        "requirement", "priority", "state", "waiting for", "since", *costs, *elsewhere, last,
        numbers=costs, fold=("waiting for", *elsewhere, last),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            each.number,
            each.priority,
            output.styled(each.state),
            _waits_for(each),
            output.since(_since(each), datetime.now(UTC)),
            *((amount(each.cost),) if costs else ()),
            *((output.plain(projects[each.number]),) if elsewhere else ()),
            _why(each) if waiting else _title(each),
        )
    return rows


def _waits_for(listed: ListedRequirement) -> str:
    """Whom it waits for, what lasts included; if its fixes are held, also who holds them."""
    if listed.state is RequirementState.HELD:
        return listed.waiting_for
    slot = "slot" if listed.queued else ""
    retried = "a retry" if listed.retries else ""
    work = (f"build {each.build}, {_took(each.started_at)}" for each in listed.building)
    clones = (f"clone of {each.stage}, {_took(each.since)}" for each in listed.preparing)
    paused = (pause.name for pause in listed.pauses)
    waits = (listed.waiting_for, *listed.held_by, *paused, slot, retried, *work, *clones)
    return ", ".join(filter(None, dict.fromkeys(waits)))


def _took(since: datetime) -> str:
    return output.duration(lasted(since))


def _since(listed: ListedRequirement) -> datetime:
    """Since when it waits, is queued, retries, builds or is paused; else its last change."""
    since = (
        *(retry.since for retry in listed.retries),
        *(each.since for each in listed.queued),
        *(build.started_at for build in listed.building),
        *(each.since for each in listed.preparing),
        *(pause.since for pause in listed.pauses),
    )
    return listed.waiting_since or min(since, default=None) or listed.updated_at


def _why(listed: ListedRequirement) -> str:
    """The question to a human, the reason of the hold, or the slots and steps it waits for."""
    if listed.asks:
        return ask_line(listed.asks[0])
    if listed.state is RequirementState.HELD:
        return listed.reason
    waits = (
        *pause_lines(listed.pauses),
        *map(queued_line, listed.queued),
        *retry_lines(listed.retries, listed.number),
        *map(building_line, listed.building),
    )
    return "; ".join(waits)


def _title(listed: ListedRequirement) -> str:
    title = output.plain(listed.title)[:_TITLE_LENGTH]
    return f"↳ {listed.parent}: {title}" if listed.parent else title
