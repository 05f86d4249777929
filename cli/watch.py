"""`watch` and `--wait`: follow requirements until they end, or until a human must answer."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from time import monotonic
from typing import Annotated

import typer
from rich.live import Live

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import BuildView, EscalationView, RequirementView, StageView
from cli import output
from cli.connections import records
from cli.diff import brought
from cli.exits import ExitCode
from cli.running import exit_code_of_state, load_settings, run, worst
from cli.status import (
    ask_line,
    building_line,
    full_status,
    lasted,
    overview,
    pre_emption_lines,
    preparing_line,
    queued_line,
    release_lines,
    retry_lines,
    status_document,
)
from pipeline.budgets import warns
from pipeline.costs import amount
from pipeline.errors import DependencyUnavailable
from pipeline.model import HUMAN, RequirementState, StageState
from settings import Settings

EXAMPLES = {
    "watch": """
Examples:

  python starter.py watch REQ-101

  python starter.py watch REQ-101 --json
"""
}

Show = Callable[[RequirementView], None]

_POLL_SECONDS = 0.5
_OUTAGE_SECONDS = 60.0
"""A restart of the database must not end a watch of hours."""
_HOST_SECONDS = 10.0
"""A running worker takes a requirement at once, unless its host is full."""


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
    """Print how to re-attach."""
    output.say("Detached; nothing was cancelled. Re-attach with:")
    for number in numbers:
        output.say(f"  python starter.py watch {number}")
    return ExitCode.INTERRUPTED


async def watch_all(settings: Settings, reader: SdlcReader, numbers: Sequence[str]) -> ExitCode:
    """Follow all of them to their ends; returns the worst exit code."""
    if len(numbers) == 1 and sys.stderr.isatty():
        return await _watch_live(settings, reader, numbers[0])
    shows = [ProgressLines() for _ in numbers]
    views = await asyncio.gather(
        *(follow(reader, number, show) for number, show in zip(numbers, shows, strict=True))
    )
    return worst([await _conclude(settings, reader, view) for view in views])


async def follow(reader: SdlcReader, number: str, show: Show) -> RequirementView:
    """Show every change until the requirement has ended or only a human can continue it.

    Raises: DependencyUnavailable if the first read fails, or if reads fail for a minute.
    """
    begin, last_seen = monotonic(), float("-inf")
    has_warned = False
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
            is_waiting = view.state is RequirementState.ACCEPTED
            if not has_warned and is_waiting and last_seen - begin > _HOST_SECONDS:
                output.say(
                    f"{number}: no host has taken it. Is a worker running? python starter.py doctor"
                )
                has_warned = True
        await asyncio.sleep(_POLL_SECONDS)


async def _watch(settings: Settings, number: str, *, as_json: bool) -> ExitCode:
    async with records(settings) as reader:
        if as_json:
            view = await follow(reader, number, _DocumentLines())
            return exit_code_of_state(view.state)
        return await watch_all(settings, reader, [number])


async def _watch_live(settings: Settings, reader: SdlcReader, number: str) -> ExitCode:
    console = output.progress()
    with Live(console=console, refresh_per_second=4, transient=True) as live:
        view = await follow(reader, number, lambda view: live.update(overview(view)))
    return await _conclude(settings, reader, view)


async def _conclude(settings: Settings, reader: SdlcReader, view: RequirementView) -> ExitCode:
    """Print the full status for people, to stderr, and the result to stdout."""
    output.progress().print(full_status(view), crop=False)
    if result := await brought(settings, reader, view):
        output.say(result.line())
    output.write(f"{view.number} {view.state}")
    return exit_code_of_state(view.state)


def _needs_human(view: RequirementView) -> bool:
    """Whether only an answer continues it, and the question can be shown already.

    It is about the requirement, about the accounts or the budget that hold all of it, or about the
    budget that holds its fixes.
    """
    if view.state is RequirementState.HELD:
        is_asked = bool(view.holds) and all(hold.needs_human for hold in view.holds)
        return is_asked and not any(stage.state is StageState.RUNNING for stage in view.stages)
    if view.is_out_of_budget:
        return True
    is_blocked = view.state is RequirementState.BLOCKED
    return is_blocked and view.waiting_for == HUMAN and view.escalation is not None


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
            yield f"{output.clock(gate.ended_at)} {gate.gate} is {gate.verdict} after {took}".lstrip()
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
