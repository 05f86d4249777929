"""`status` and `list`: what the SDLC database says."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import Annotated

import typer
from rich.table import Table

from adapters.sdlc_views import ListedRequirement, RequirementView
from cli import output
from cli.connections import records
from cli.documents import status_document, summary_document
from cli.holds_view import queued_line, retry_lines
from cli.installation import hint_of_stranger
from cli.repairs_view import ask_line
from cli.running import load_settings, run
from cli.sasha_standing import hint_of_sasha, missing_dependency
from cli.status_view import full_status
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

_TITLE_LENGTH = 60
_LATER_SECONDS = 0.2
"""How much longer than the rows a hint for the list may take: it comes as fast as they do."""

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.")]


def status(
    req: Annotated[str, typer.Argument(help="The requirement's number.")], as_json: AsJson = False
) -> None:
    """Show where a requirement stands, why it waits, what answers."""
    view, hints = run(_requirement(load_settings(), req))
    if as_json:
        output.write_json({**status_document(view), **asdict(hints)})
        return
    output.data().print(full_status(view), crop=False)
    _write_hints(hints)


def list_requirements(
    waiting: Annotated[
        bool, typer.Option("--waiting", help="Only what waits: for whom, since when, why.")
    ] = False,
    state: Annotated[
        list[RequirementState] | None, typer.Option("--state", help="Only these; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List requirements, newest first."""
    found, hints = run(_requirements(load_settings(), tuple(state or ()), waiting=waiting))
    if as_json:
        documents = [summary_document(summary) for summary in found]
        output.write_json({"requirements": documents, **asdict(hints)})
        return
    output.data().print(_table(found, waiting=waiting))
    _write_hints(hints)


@dataclass(frozen=True)
class Hints:
    """What no row of a requirement can say: whose it is; that nothing goes on, and why."""

    installation: str | None
    missing_dependency: str = ""
    wrong_installation: str = ""


def _write_hints(hints: Hints) -> None:
    if hints.missing_dependency:
        output.write(
            f"{hints.missing_dependency}: not available, and nothing goes on without it:"
            " python starter.py doctor"
        )
    if hints.wrong_installation:
        output.write(hints.wrong_installation)


def _table(found: Sequence[ListedRequirement], *, waiting: bool) -> Table:
    """One line each: for what waits the reason, else the title."""
    last = "why" if waiting else "title"
    rows = output.table(
        "requirement", "priority", "state", "waiting for", "since", last,
        fold=("waiting for", last),
    )  # fmt: skip
    for each in found:
        rows.add_row(
            each.number,
            each.priority,
            output.styled(each.state),
            _waits_for(each),
            output.since(_since(each), datetime.now(UTC)),
            _why(each) if waiting else _title(each),
        )
    return rows


def _waits_for(listed: ListedRequirement) -> str:
    """Whom it waits for: fixes that are held themselves wait for who holds them."""
    if listed.state is RequirementState.HELD:
        return listed.waiting_for
    slot = "slot" if listed.queued else ""
    retried = "a retry" if listed.retries else ""
    waits = (listed.waiting_for, *listed.held_by, slot, retried)
    return ", ".join(filter(None, dict.fromkeys(waits)))


def _since(listed: ListedRequirement) -> datetime:
    """Since when it waits, for a slot too, or fails."""
    since = (*(retry.since for retry in listed.retries), *(each.since for each in listed.queued))
    return listed.waiting_since or min(since, default=None) or listed.updated_at


def _why(listed: ListedRequirement) -> str:
    """What a human is asked, why it is held, or which slot is missing."""
    if listed.asks:
        return ask_line(listed.asks[0])
    if listed.state is RequirementState.HELD:
        return listed.reason
    waits = (*map(queued_line, listed.queued), *retry_lines(listed.retries, listed.number))
    return "; ".join(waits)


def _title(listed: ListedRequirement) -> str:
    title = output.plain(listed.title)[:_TITLE_LENGTH]
    return f"↳ {listed.parent}: {title}" if listed.parent else title


async def _requirement(settings: Settings, number: str) -> tuple[RequirementView, Hints]:
    """Its view, and what no row can say yet."""
    async with records(settings) as reader:
        view = await reader.requirement(number)
        installation = await reader.installation()
    whose = installation.id if installation else None
    if view.state.is_final:
        return view, Hints(whose)
    stranger = asyncio.create_task(hint_of_stranger(settings))
    standing = await hint_of_sasha(settings) if _is_under_way(view.state) else None
    return view, Hints(whose, missing_dependency(standing, (number,)), await stranger)


async def _requirements(
    settings: Settings, states: tuple[RequirementState, ...], *, waiting: bool
) -> tuple[tuple[ListedRequirement, ...], Hints]:
    """What is listed, and what no row can say; that is asked while the rows are read."""
    began = monotonic()
    hint = asyncio.create_task(hint_of_sasha(settings))
    stranger = asyncio.create_task(hint_of_stranger(settings))
    try:
        async with records(settings) as reader:
            found = await reader.requirements(states=states, waiting=waiting)
            installation = await reader.installation()
        whose = installation.id if installation else None
        numbers = [each.number for each in found if _is_under_way(each.state)]
        # whoever waits for a dependency is no row that waits
        if not (numbers or waiting):
            return found, Hints(whose)
        # as long again as the rows took, on a machine that is slow
        await asyncio.wait({hint, stranger}, timeout=max(_LATER_SECONDS, monotonic() - began))
        missing = missing_dependency(hint.result() if hint.done() else None, numbers)
        return found, Hints(whose, missing, stranger.result() if stranger.done() else "")
    finally:
        hint.cancel()
        stranger.cancel()


def _is_under_way(state: RequirementState) -> bool:
    return not (state.is_final or state is RequirementState.ACCEPTED)
