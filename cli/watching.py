"""`watch` and `--wait`: follow requirements to their end, or to where a human must answer."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from time import monotonic
from typing import Annotated

import typer
from rich.live import Live

from adapters.sdlc_reader import SdlcReader
from adapters.sdlc_views import RequirementView
from cli import output
from cli.connections import records
from cli.documents import status_document
from cli.progress import ProgressLines
from cli.running import ExitCode, exit_code_of_state, load_settings, run, worst
from cli.status_view import full_status, overview
from pipeline.errors import DependencyUnavailable
from pipeline.model import HUMAN, RequirementState
from settings import Settings

EXAMPLES = {
    "watch": """
Examples:

  python starter.py watch REQ-101

  python starter.py watch REQ-101 --json
"""
}

Show = Callable[[RequirementView], None]

_LOOK_SECONDS = 0.5
_OUTAGE_SECONDS = 60.0
"""A database that is started again interrupts nobody who waits for hours."""
_HOST_SECONDS = 10.0
"""A worker that runs takes a requirement at once, unless its host is full."""


def watch(
    req: Annotated[str, typer.Argument(help="The requirement's number.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="One status document a line, at every change.")
    ] = False,
) -> None:
    """Follow a requirement; the exit code tells how it ended. Ctrl-C detaches, cancels nothing."""
    try:
        code = run(_watch(load_settings(), req, as_json=as_json))
    except KeyboardInterrupt:
        code = detach([req])
    raise typer.Exit(code)


def detach(numbers: Sequence[str]) -> ExitCode:
    """Tell how to re-attach."""
    output.say("Detached; nothing was cancelled. Re-attach with:")
    for number in numbers:
        output.say(f"  python starter.py watch {number}")
    return ExitCode.INTERRUPTED


async def watch_all(reader: SdlcReader, numbers: Sequence[str]) -> ExitCode:
    """Follow all to their ends; the worst exit code."""
    if len(numbers) == 1 and sys.stderr.isatty():
        return await _watch_live(reader, numbers[0])
    shows = [ProgressLines() for _ in numbers]
    views = await asyncio.gather(
        *(follow(reader, number, show) for number, show in zip(numbers, shows, strict=True))
    )
    return worst([_conclude(view) for view in views])


async def follow(reader: SdlcReader, number: str, show: Show) -> RequirementView:
    """Show every change until the requirement has ended or waits for a human alone.

    Raises: DependencyUnavailable at once at the first look, later after a minute without one.
    """
    begin, last_seen = monotonic(), float("-inf")
    is_told = False
    while True:
        try:
            view = await reader.requirement(number)
        except DependencyUnavailable:
            if monotonic() - last_seen > _OUTAGE_SECONDS:
                raise
        else:
            last_seen = monotonic()
            show(view)
            if view.state.is_final or _needs_human(view):
                return view
            if not is_told and _is_left_lying(view, last_seen - begin):
                output.say(f"{number}: no host takes it. Does a worker run? starter.py doctor")
                is_told = True
        await asyncio.sleep(_LOOK_SECONDS)


async def _watch(settings: Settings, number: str, *, as_json: bool) -> ExitCode:
    async with records(settings) as reader:
        if as_json:
            view = await follow(reader, number, _DocumentLines())
            return exit_code_of_state(view.state)
        return await watch_all(reader, [number])


async def _watch_live(reader: SdlcReader, number: str) -> ExitCode:
    console = output.progress()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        view = await follow(reader, number, lambda view: live.update(overview(view)))
    return _conclude(view)


def _conclude(view: RequirementView) -> ExitCode:
    """The whole picture to those who looked on, the result to stdout."""
    output.progress().print(full_status(view), crop=False)
    output.write(f"{view.number} {view.state}")
    return exit_code_of_state(view.state)


def _is_left_lying(view: RequirementView, seconds: float) -> bool:
    return view.state is RequirementState.ACCEPTED and seconds > _HOST_SECONDS


def _needs_human(view: RequirementView) -> bool:
    """Whether only an answer brings it on, and the question is there to be shown."""
    is_blocked = view.state is RequirementState.BLOCKED
    return is_blocked and view.waiting_for == HUMAN and view.escalation is not None


class _DocumentLines:
    """A status document whenever it differs from the one before."""

    def __init__(self) -> None:
        self._last: object = None

    def __call__(self, view: RequirementView) -> None:
        document = status_document(view)
        if document != self._last:
            output.write_json_line(document)
            self._last = document
