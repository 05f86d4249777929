"""`watch` and `--wait`: follow requirements until they end, or until a human must answer."""

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Group

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import BuildView, EscalationView, RequirementView, StageView
from cli import output
from cli.board import Board, Watched
from cli.connections import records
from cli.diff import brought
from cli.following import follow, follow_live
from cli.running import OK, ExitCode, exit_code_of_state, load_settings, run, worst
from cli.status import (
    ask_line,
    building_line,
    failure_text,
    full_status,
    lasted,
    pause_lines,
    pre_emption_lines,
    preparing_line,
    queued_line,
    release_lines,
    retry_lines,
    status_document,
)
from pipeline.budgets import warns
from pipeline.costs import amount
from pipeline.model import RequirementState, StageState
from pipeline.pauses import Pause
from settings import Settings

EXAMPLES = {
    "watch": """
Examples:

  python starter.py watch

  python starter.py watch REQ-101

  python starter.py watch REQ-101 --json
"""
}


_UNBOUNDED = 1_000_000
"""Lines: what stays on the terminal may scroll."""


def watch(
    req: Annotated[
        str | None, typer.Argument(help="A requirement; default: all that are under way.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One status document a line, at every change.")
    ] = False,
) -> None:
    """Follow one requirement, or all that are under way.

    It ends once each has ended or only a human can continue it; the exit code tells how. On a
    terminal it is a board. Ctrl-C, or q on the board, detaches and cancels nothing.
    """
    try:
        code = run(_watch(load_settings(), req, as_json=as_json))
    except KeyboardInterrupt:
        code = detach([req] if req else [])
    raise typer.Exit(code)


def detach(numbers: Sequence[str]) -> ExitCode:
    """Print how to re-attach."""
    output.say("Detached; nothing was cancelled. Re-attach with:")
    for number in numbers or ("",):
        output.say(f"  python starter.py watch {number}".rstrip())
    return ExitCode.INTERRUPTED


async def watch_all(
    settings: Settings,
    reader: SdlcReader,
    numbers: Sequence[str],
    *,
    with_new: bool = False,
    is_rehearsed: bool = False,
) -> ExitCode:
    """Follow all of them to their ends; returns the worst exit code.

    On a terminal that is a board; elsewhere a line for every change. Of what is only rehearsed the
    end names no further command, since its servers go with it.
    """
    if sys.stderr.isatty():
        views = await follow_live(settings, reader, numbers, with_new=with_new)
        if views is None:
            return detach(() if with_new else numbers)
        if len(views) > 1:
            return _summarize(list(views.values()))
    else:
        lines: defaultdict[str, ProgressLines] = defaultdict(ProgressLines)
        views = await follow(
            reader,
            numbers,
            lambda view: lines[view.number](view),
            output.say,
            with_new=with_new,
        )
    if is_rehearsed:
        for view in views.values():
            output.progress().print(Group(*map(failure_text, view.failures)), crop=False)
        return worst([exit_code_of_state(view.state) for view in views.values()])
    return worst([await _conclude(settings, reader, view) for view in views.values()])


async def _watch(settings: Settings, number: str | None, *, as_json: bool) -> ExitCode:
    async with records(settings) as reader:
        numbers = [number] if number else await reader.under_way()
        if not numbers:
            output.say("No requirement is under way. All there are: python starter.py list")
            return OK
        if as_json:
            lines: defaultdict[str, _DocumentLines] = defaultdict(_DocumentLines)
            views = await follow(
                reader,
                numbers,
                lambda view: lines[view.number](view),
                output.say,
                with_new=not number,
            )
            return worst([exit_code_of_state(view.state) for view in views.values()])
        return await watch_all(settings, reader, numbers, with_new=not number)


def _summarize(views: Sequence[RequirementView]) -> ExitCode:
    """Print the last board for people, to stderr, and the results to stdout."""
    console = output.screen()
    board = Board([Watched(view) for view in views], datetime.now(UTC))
    for line in board.lines(console.width, _UNBOUNDED):
        console.print(line, no_wrap=True, crop=False)
    for view in views:
        output.write(f"{view.number} {view.state}")
    return worst([exit_code_of_state(view.state) for view in views])


async def _conclude(settings: Settings, reader: SdlcReader, view: RequirementView) -> ExitCode:
    """Print the full status for people, to stderr, and the result to stdout."""
    output.progress().print(full_status(view), crop=False)
    if result := await brought(settings, reader, view):
        output.say(result.line())
    output.write(f"{view.number} {view.state}")
    return exit_code_of_state(view.state)


class _DocumentLines:
    """Prints a status document whenever it differs from the previous one."""

    def __init__(self) -> None:
        self._last: object = None

    def __call__(self, view: RequirementView) -> None:
        document = status_document(view)
        if document != self._last:
            output.write_json_line(document)
            self._last = document


class ProgressLines:
    """Prints, line by line, what has changed in a requirement since the previous view."""

    def __init__(self) -> None:
        self._state = ""
        self._stages: dict[str, tuple[StageState, int]] = {}
        self._round = 0
        self._fixes: dict[str, RequirementState | None] = {}
        self._escalation = 0
        self._releases: tuple[str, ...] = ()
        self._pauses: tuple[Pause, ...] = ()
        self._queued: frozenset[str] = frozenset()
        self._failing: set[tuple[str, str, datetime]] = set()
        self._prepared: dict[str, tuple[datetime | None, datetime | None]] = {}
        self._warned: set[str] = set()
        self._building: frozenset[BuildView] = frozenset()
        self._built = 0

    def __call__(self, view: RequirementView) -> None:
        """Print every change, causes first: ended fixes, then failures, then what follows."""
        for line in (
            *self._ended_fix_lines(view),
            *self._stage_lines(view),
            *self._queued_lines(view),
            *self._prepare_lines(view),
            *self._build_lines(view),
            *self._failure_lines(view),
            *self._opened_fix_lines(view),
            *self._budget_lines(view),
            *self._state_lines(view),
            *self._retry_lines(view),
            *self._question_lines(view.escalation),
        ):
            output.say(f"[{view.number}] {line}")

    def _stage_lines(self, view: RequirementView) -> Iterator[str]:
        for stage in view.stages:
            now = (stage.state, stage.attempt)
            if self._stages.get(stage.stage, (StageState.WAITING, 0)) != now:
                yield _stage_line(stage)
            self._stages[stage.stage] = now

    def _queued_lines(self, view: RequirementView) -> Iterator[str]:
        """Once for each stage, although its place changes whenever an agent ends."""
        yield from (queued_line(each) for each in view.queued if each.stage not in self._queued)
        self._queued = frozenset(each.stage for each in view.queued)

    def _prepare_lines(self, view: RequirementView) -> Iterator[str]:
        """When the preparation of a stage's clone begins, and when it has ended."""
        for stage in view.stages:
            now = (stage.prepare_started_at, stage.prepare_ended_at)
            if any(now) and self._prepared.get(stage.stage) != now:
                yield f"{stage.stage}: {preparing_line(stage)}"
            self._prepared[stage.stage] = now

    def _build_lines(self, view: RequirementView) -> Iterator[str]:
        """When a build is seen to be under way, and how each has ended."""
        for build in view.building:
            if build not in self._building:
                yield building_line(build)
        self._building = frozenset(view.building)
        gates = [gate for gate in view.gates if gate.clean is not None]
        for gate in gates[self._built :]:
            took = gate.started_at and output.duration(lasted(gate.started_at, gate.ended_at))
            at = output.clock(gate.ended_at)
            yield f"{at} {gate.gate} is {gate.verdict} after {took}".lstrip()
        self._built = len(gates)

    def _failure_lines(self, view: RequirementView) -> Iterator[str]:
        new = [failure for failure in view.failures if failure.round > self._round]
        if new:
            self._round = max(failure.round for failure in new)
            yield f"Round {self._round} has failures: {len(new)}"
        for failure in new:
            owners = " and ".join(failure.owners) or "nobody"
            yield _with_reason(f"❌ {failure.gate} ({owners})", failure.error)

    def _opened_fix_lines(self, view: RequirementView) -> Iterator[str]:
        for fix in view.fixes:
            if fix.number not in self._fixes:
                yield f"{fix.number} opened: {fix.assignee} repairs {fix.gate}"
                self._fixes[fix.number] = None
        yield from self._ended_fix_lines(view)

    def _ended_fix_lines(self, view: RequirementView) -> Iterator[str]:
        for fix in view.fixes:
            if fix.number in self._fixes and self._fixes[fix.number] is not fix.state:
                self._fixes[fix.number] = fix.state
                if fix.state.is_final:
                    ended = (
                        f"{output.clock(fix.ended_at)} {fix.number} ({fix.assignee}) {fix.state}"
                    )
                    yield _with_reason(ended, fix.reason)

    def _state_lines(self, view: RequirementView) -> Iterator[str]:
        waiting = f", waits for {view.waiting_for}" if view.waiting_for else ""
        waiting = f". {view.turn.text}" if view.turn else waiting
        if (now := f"{view.state}{waiting}") != self._state:
            yield from (now, *pre_emption_lines(view))
        self._state = now
        if view.pauses != self._pauses:
            yield from pause_lines(view.pauses) if view.pauses else ("It is not paused any more.",)
        self._pauses = view.pauses
        if (releases := tuple(release_lines(view))) != self._releases:
            yield from releases
        self._releases = releases

    def _budget_lines(self, view: RequirementView) -> Iterator[str]:
        """Once for each budget that warns; one that holds is told of with the state."""
        warning = [budget for budget in view.budgets if budget.is_warned]
        yield from (warns(budget) for budget in warning if budget.scope not in self._warned)
        self._warned |= {budget.scope for budget in warning}

    def _retry_lines(self, view: RequirementView) -> Iterator[str]:
        """Once for each step that fails, and once when it is over; `status` counts the tries."""
        failing = {(retry.number, retry.step, retry.since): retry for retry in view.retries}
        new = [retry for key, retry in failing.items() if key not in self._failing]
        yield from retry_lines(new, view.number)
        for number, step, _ in self._failing - failing.keys():
            whose = "" if number == view.number else f"{number}: "
            yield f"No longer retrying {whose}{step}"
        self._failing = set(failing)

    def _question_lines(self, escalation: EscalationView | None) -> Iterator[str]:
        if escalation and escalation.escalation > self._escalation:
            yield from (f"A human is asked: {ask_line(ask)}" for ask in escalation.asks)
            self._escalation = escalation.escalation


def _stage_line(stage: StageView) -> str:
    at = output.clock(stage.ended_at or stage.started_at)
    attempt = f", attempt {stage.attempt}" if stage.attempt > 1 else ""
    resumed = f", session resumed {stage.resumes} times" if stage.resumes else ""
    cost = f", {money}" if stage.ended_at and (money := amount(stage.cost)) else ""
    said = f"{at} {stage.stage} ({stage.agent}{attempt}{resumed}) {stage.state}{cost}".lstrip()
    return _with_reason(said, stage.reason)


def _with_reason(said: str, reason: str) -> str:
    first = output.first_line(reason)
    return f"{said}: {first}" if first else said
