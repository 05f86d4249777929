"""The board that `watch` shows on a terminal: what is asked and red first, then what is at work.

It fits its terminal. Nothing here reads or writes; a `Watched` holds all that is shown.
"""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich.cells import cell_len, set_cell_size
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from adapters.sdlc.views import FixView, RequirementView, StageView
from cli import output
from cli.estimates import Rest
from cli.run_work import Work
from cli.running import as_called
from cli.status import (
    ask_line,
    blocked_line,
    hold_line,
    lasted,
    pause_lines,
    queued_line,
    release_lines,
    retry_lines,
)
from cli.verdict import needs_human, verdict
from pipeline.budgets import is_spent, warns
from pipeline.costs import amount
from pipeline.durations import Source
from pipeline.failures import headline
from pipeline.model import RequirementState, StageState
from pipeline.steering import addressed

_ERROR_ROWS = 4
"""Lines that the first line of an error may take; the rest stands in `status`."""
_NAME_WIDTH, _AGENT_WIDTH, _TIME_WIDTH = 25, 9, 19
_INDENT = 2
_GAP = 7
"""The rank of the empty lines between requirements: all of them are left out, or none."""
_ASCII = str.maketrans({"█": "#", "░": "-", "…": "~", "·": "-", "│": "|", "→": ">"})


@dataclass(frozen=True)
class Watched:
    """A requirement, its plan (minutes by stage), how long it takes yet, its running stages."""

    view: RequirementView
    minutes: Mapping[str, float] = field(default_factory=dict)
    work: Mapping[str, Work] = field(default_factory=dict)
    rest: Rest | None = None

    def seconds_of(self, stage: str, work: Work) -> float:
        """How long a stage takes: half of its earlier runs, or by the plan; 0 if neither tells."""
        known = self.rest.estimate.stages if self.rest else ()
        for each in known:
            if each.stage == stage and each.source is not Source.FILE:
                return each.p50
        return self.minutes.get(stage, 0.0) * work.minute_seconds


@dataclass
class _Block:
    """Lines that belong together, in ever shorter forms; the highest rank is shortened first."""

    rank: int
    forms: Sequence[Sequence[Text]]
    level: int = 0

    @property
    def lines(self) -> Sequence[Text]:
        return self.forms[self.level]

    @property
    def can_shrink(self) -> bool:
        return self.level < len(self.forms) - 1


class Board:
    """Renders requirements for as many columns and lines as the console has."""

    def __init__(self, watched: Sequence[Watched], now: datetime, *notes: str) -> None:
        """Take them as of `now`; `notes` are lines that stand last."""
        self._watched = sorted(watched, key=lambda each: _urgency(each.view))
        self._now = now
        self._notes = notes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = options.height or console.height
        lines = self.lines(options.max_width, height)
        if options.ascii_only:
            lines = [_in_ascii(line) for line in lines]
        yield Text("\n").join(lines)

    def lines(self, width: int, height: int) -> list[Text]:
        """At most so many lines, none wider than that."""
        blocks = [block for each in self._watched for block in self._blocks(each, width)]
        notes = [row for note in self._notes for row in _wrapped(_clean(note), width, style="dim")]
        while sum(len(block.lines) for block in blocks) > height - len(notes):
            shrinking = [block for block in blocks if block.can_shrink]
            if not shrinking:
                break
            widest = max(shrinking, key=lambda block: (block.rank, len(block.lines)))
            gaps = [block for block in shrinking if block.rank == widest.rank == _GAP]
            for block in gaps or [widest]:
                block.level += 1
        shown = [line for block in blocks for line in block.lines]
        room = max(1, height - len(notes))
        if len(shown) > room:
            more = len(shown) - room + 1
            told = as_called(f"… {more} more lines: python starter.py list --waiting")
            shown = [*shown[: room - 1], _cut(told, width, "dim")]
        return [*shown, *notes][:height]

    def _blocks(self, watched: Watched, width: int) -> Iterator[_Block]:
        """From top to bottom; a rank says how much a block matters, 0 the most."""
        view = watched.view
        yield _Block(0, [_head(view, width)])
        yield _Block(6, [[self._about(view, width)], []])
        if watched.rest:
            line = _clean(watched.rest.line())
            yield _Block(6, [_wrapped(line, width), [_cut(line, width)], []])
        yield from _asked(view, width)
        for line in pause_lines(view.pauses):
            yield _Block(1, [_wrapped(_clean(as_called(line)), width, "bold yellow")])
        if view.failures and not view.state.is_final:
            yield _red(view, width)
        yield self._at_work(watched, width)
        waits = list(_waits(view))
        if waits:
            wrapped = [row for line in waits for row in _wrapped(line, width, "yellow")]
            cut = [_cut(line, width, "yellow") for line in waits]
            yield _Block(5, [wrapped, cut, [*cut[:1], _cut(f"… {len(cut)} waits", width)][:2]])
        for rank, line in _others(view):
            yield _Block(rank, [[_cut(line, width, "dim")], []])
        if len(self._watched) > 1:
            yield _Block(_GAP, [[Text("")], []])

    def _about(self, view: RequirementView, width: int) -> Text:
        took = _span(lasted(view.created_at, view.ended_at or self._now))
        cost = (amount(view.cost),) if view.cost.is_known else ()
        parts = (view.priority, f"{view.pipeline}, {view.mode}", took, *cost, _clean(view.title))
        return _cut(" · ".join(parts), width, "dim")

    def _at_work(self, watched: Watched, width: int) -> _Block:
        """Running stages with their last line, builds and fixes; fewer where there is no room."""
        pairs: list[tuple[Text, Text | None]] = []
        view = watched.view
        for stage in view.stages:
            if stage.state is StageState.RUNNING:
                pairs.append(self._stage(stage, watched, width))
        for build in view.building:
            took = self._since(build.started_at)
            name = f"build {build.build}"
            commit = f"on {build.commit[:10]}" if build.commit else ""
            pairs.append((_row(name, build.agent, commit, took, width), None))
        for fix in view.fixes:
            if not fix.state.is_final:
                pairs.append((self._fix(fix, width), None))
        rows = [row for row, _ in pairs]
        whole = [line for pair in pairs for line in pair if line is not None]
        fewer = [
            [*rows[:shown], _cut(f"  … and {len(rows) - shown} more at work", width, "dim")]
            for shown in range(len(rows) - 2, 0, -1)
        ]
        return _Block(4, [whole, rows, *fewer] if rows else [[]])

    def _stage(self, stage: StageView, watched: Watched, width: int) -> tuple[Text, Text | None]:
        work = watched.work.get(stage.stage, Work())
        said = _cut(f"{'':{_INDENT}}│ {_clean(work.last_line)}", width, "dim")
        log = said if work.last_line else None
        if stage.is_preparing:
            since, what = stage.prepare_started_at, "clone is being prepared"
        elif work.agent_ended_at:
            since, what = work.agent_ended_at, "is taken over and merged"
        else:
            since, what = stage.started_at, ""
        elapsed = lasted(since, self._now) if since else 0.0
        if what:
            row = _row(stage.stage, stage.agent, what, _span(elapsed), width)
            return row, log
        planned = watched.seconds_of(stage.stage, work)
        style = "yellow" if planned and elapsed > planned else "cyan"
        took = f"{_span(elapsed)} of {_span(planned)}" if planned else _span(elapsed)
        share = min(1.0, elapsed / planned) if planned else 0.0
        return _row(stage.stage, stage.agent, share if planned else "", took, width, style), log

    def _fix(self, fix: FixView, width: int) -> Text:
        took = self._since(fix.created_at)
        return _row(fix.number, fix.assignee, f"repairs {fix.gate}, {fix.state}", took, width)

    def _since(self, at: datetime) -> str:
        return _span(lasted(at, self._now))


def _urgency(view: RequirementView) -> tuple[int, str, str]:
    """Where it stands among others: what needs a human first, then what is red."""
    order = 3
    if needs_human(view) or view.escalation:
        order = 0
    elif view.failures:
        order = 1
    elif view.state is RequirementState.HELD:
        order = 2
    return order, view.priority, view.number


def _head(view: RequirementView, width: int) -> list[Text]:
    style = output.style_of(view.state)
    said = _clean(verdict(view))
    lines = _wrapped(f"{view.number} {view.state}: {said}" if said else view.number, width)
    lines[0].stylize("bold", 0, len(view.number))
    lines[0].stylize(style, len(view.number), len(view.number) + 1 + len(view.state))
    return lines


def _asked(view: RequirementView, width: int) -> Iterator[_Block]:
    """Questions and the commands that answer them; budgets and accounts ask as well."""
    for budget in view.budgets:
        if budget.is_spent and not view.state.is_final:
            yield _Block(1, [_wrapped(_clean(is_spent(budget, view.number)), width, "bold red")])
        elif budget.is_warned:
            yield _Block(5, [_wrapped(_clean(warns(budget)), width, "yellow"), []])
    if not view.escalation:
        return
    asks = [f"ASKED: {_clean(ask_line(ask))}" for ask in view.escalation.asks]
    yield _Block(1, [[row for ask in asks for row in _wrapped(ask, width, "bold red")]])
    commands = [
        as_called(f"python starter.py {addressed(answer, view.number)}")
        for answer in view.escalation.answers
    ]
    answers = [row for command in commands for row in _wrapped(f"→ {command}", width, indent=2)]
    all_of_them = as_called(f"→ answers: python starter.py status {view.number}")
    yield _Block(3, [answers, _wrapped(all_of_them, width, indent=2)])


def _red(view: RequirementView, width: int) -> _Block:
    """Each failure with its owners and the line that says best what is wrong."""
    whole, short = [], []
    for failure in view.failures:
        owners = ", ".join(failure.owners) or "nobody"
        what = f"RED: {_clean(failure.gate)} ({owners})"
        error = _clean(headline(failure.error))
        rows = _wrapped(f"{what}: {error}" if error else what, width, "red")
        if len(rows) > _ERROR_ROWS:
            last = _cut(f"{rows[_ERROR_ROWS - 1].plain}…", width, "red")
            last = _cut(f"{set_cell_size(last.plain, width - 1).rstrip()}…", width, "red")
            rows = [*rows[: _ERROR_ROWS - 1], last]
        whole += rows
        short.append(_cut(f"{what}: {error}", width, "red"))
    return _Block(2, [whole, short])


def _waits(view: RequirementView) -> Iterator[str]:
    """Why something does not start: holds, slots, steps that fail."""
    lines = (
        *(hold_line(hold, view) for hold in view.holds),
        *release_lines(view),
        *map(queued_line, view.queued),
        *retry_lines(view.retries, view.number),
    )
    yield from (_clean(line) for line in lines)


def _others(view: RequirementView) -> Iterator[tuple[int, str]]:
    """One line for all stages that are blocked, wait or are done, each with its rank."""
    queued = {each.stage for each in view.queued}
    waiting = [
        stage.stage
        for stage in view.stages
        if stage.state is StageState.WAITING and stage.stage not in queued
    ]
    done = [
        stage.stage
        for stage in view.stages
        if stage.state in (StageState.COMPLETED, StageState.SKIPPED)
    ]
    if line := blocked_line(view):
        yield 8, line
    if waiting:
        yield 8, f"To come: {len(waiting)}: {', '.join(waiting)}"
    if done:
        yield 9, f"Done: {len(done)} of {len(view.stages)}: {', '.join(done)}"


# --- lines ----------------------------------------------------------------------------------------


def _row(
    name: str, agent: str, middle: "str | float", took: str, width: int, style: str = "cyan"
) -> Text:
    """Name, agent, a bar or some words, and the time at the right edge."""
    time = max(_TIME_WIDTH, cell_len(took))
    room = max(0, width - _INDENT - _NAME_WIDTH - _AGENT_WIDTH - time - 3)
    if isinstance(middle, str):
        shown = set_cell_size(_clean(middle), room)
    else:
        filled = round(room * middle)
        shown = "█" * filled + "░" * (room - filled)
    left = f"{'':{_INDENT}}{_fitted(name, _NAME_WIDTH)} {_fitted(agent, _AGENT_WIDTH)} "
    line = Text(f"{left}{shown} {took:>{time}}")
    line.stylize(style, len(left), len(left) + len(shown))
    line.truncate(width)
    return line


def _span(seconds: float) -> str:
    """Whole seconds: a board that is drawn once a second shows no tenths."""
    return f"{seconds:.0f}s" if round(seconds) < 60 else output.duration(seconds)


def _fitted(text: str, width: int) -> str:
    """The text in exactly so many columns."""
    clean = _clean(text)
    return set_cell_size(clean, width) if cell_len(clean) <= width else _shortened(clean, width)


def _shortened(text: str, width: int) -> str:
    return f"{set_cell_size(text, width - 1).rstrip()}…"


def _cut(text: str, width: int, style: str = "") -> Text:
    """One line, with an ellipsis where the text does not fit."""
    return Text(text if cell_len(text) <= width else _shortened(text, width), style)


def _wrapped(text: str, width: int, style: str = "", indent: int = 0) -> list[Text]:
    """As many lines as the whole text needs, a long word is broken."""
    lines = Text(text, style).wrap(_PLAIN, max(1, width - indent), overflow="fold")
    for line in lines:
        line.rstrip()
        line.pad_left(indent)
    return list(lines) or [Text("")]


_PLAIN = Console(width=80, force_terminal=False)
"""Rich wraps for a console; its width is not used."""


def _clean(text: str) -> str:
    """One line of text that cannot move the cursor, hide, or turn the direction of others."""
    shown = (
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(each) in ("Cf", "Co", "Cs") else each
        for each in " ".join(output.plain(text).split())
    )
    return "".join(shown)


def _in_ascii(line: Text) -> Text:
    """For a terminal without these characters: nothing gets wider."""
    plain = line.plain.translate(_ASCII).encode("ascii", "replace").decode()
    return Text(plain, spans=line.spans, style=line.style)
