"""What the Web UI shows of a workflow under User Metadata, as Markdown; times are UTC.

The UI gives it half of the window, cuts off what is wider, and sets cells of tables side by side
without a gap: so cells end with spaces that do not break. It renders HTML and loads images, so text
of others is escaped.
"""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from pipeline.board import Board
from pipeline.costs import amount, told
from pipeline.failures import headline
from pipeline.model import NO_COST, Ask, Expected, RequirementState, Stage, StageState
from pipeline.steering import addressed

_NBSP = "\N{NO-BREAK SPACE}"
_GAP = f"{2 * _NBSP} | "
_MARKUP = re.compile(r"([\\`*_\[\]<>|#~!])")
_NUMBER = re.compile(r"REQ-[A-Za-z0-9]+(?:-[A-Za-z0-9]+)*")
_ERROR_LENGTH = 500
YOU = "your name"


@dataclass(frozen=True)
class Moment:
    """What is shown of a requirement, and when; `note` is Markdown.

    `expected` is how long it was likely to take at its start.
    """

    number: str
    state: RequirementState
    waiting_for: str
    note: str
    now: datetime
    namespace: str
    expected: Expected | None = None


def details(shown: Moment, board: Board) -> str:
    """How it stands, what a human can answer, when it is likely to end, and its stages."""
    lines = [f"**{shown.number}** is **{shown.state}**", ""]
    if shown.waiting_for:
        lines += [f"Waiting for: {linked(shown.waiting_for, shown.namespace)}", ""]
    if shown.note:
        lines += [shown.note, ""]
    if shown.expected and not shown.state.is_final:
        lines += [*_expected(shown, shown.expected, board), ""]
    whole = sum((entry.cost for entry in board.entries.values()), NO_COST)
    costs = ("cost",) if whole.is_known else ()
    rows = [
        (*_stage(shown, board, stage), *((amount(entry.cost),) if costs else ()))
        for stage in board.pipeline.stages
        for entry in (board.entries[stage.name],)
    ]
    lines += table(("stage", "agent", "state", "since", "took", *costs), rows)
    if whole.is_known:
        lines.append(f"\nCost of its stages: {told(whole)}")
    if failures := board.open_failures():
        lines += ["", "What is red:", ""]
        for failure in failures:
            owners = ", ".join(failure.owners) or "nobody"
            first = headline(failure.error) or str(failure.kind)
            lines.append(f"- **{failure.gate}** ({owners}): {escaped(first[:_ERROR_LENGTH])}")
    return "\n".join(lines)


def question(number: str, asks: Sequence[Ask], answers: Sequence[str]) -> str:
    """What a human is asked, and how to answer there or here; empty for nothing."""
    if not asks:
        return ""
    asked = [f"- **{ask.gate}**: {escaped(ask.reason)}" for ask in asks]
    commands = [f"- `starter.py {addressed(answer, number)}`" for answer in answers]
    updates = [f"- `{name}` with `{value}`" for name, value in map(update_of, answers)]
    return "\n".join(
        [
            *("A human is asked:", "", *asked, ""),
            *("Possible answers:", "", *commands, ""),
            *("Or here, by *More Actions*, *Send an Update*:", "", *updates),
        ]
    )


def update_of(answer: str) -> tuple[str, str]:
    """The update that gives an answer of `possible_answers`, and its input as JSON."""
    verb, what = shlex.split(answer)
    key = "stage" if verb == "retry" else "answer"
    return verb, json.dumps({key: what, "who": YOU}, ensure_ascii=False)


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table; cells are Markdown."""
    lines = [columns, *rows]
    head, *body = [f"| {_GAP.join(line)}{_GAP.rstrip()}" for line in lines]
    return [head, f"|{' :--- |' * len(columns)}", *body]


def escaped(text: str) -> str:
    """Text of others as one line of Markdown that shows it and nothing else."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def linked(text: str, namespace: str) -> str:
    """Text of ours in which the numbers of requirements and fixes lead to their workflows."""
    return _NUMBER.sub(
        lambda found: f"[{found[0]}](/namespaces/{namespace}/workflows/{found[0]})", text
    )


def moment(at: datetime, now: datetime) -> str:
    """The time of day, with its date unless that is the date of `now`."""
    return f"{at:%H:%M}" if at.date() == now.date() else f"{at:%m-%d}{_NBSP}{at:%H:%M}"


def span(took: timedelta) -> str:
    """A time in its two largest units, which stay together."""
    seconds = round(took.total_seconds())
    if seconds < 60:
        return f"{seconds}{_NBSP}s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours}{_NBSP}h{_NBSP}{minutes:02}" if hours else f"{minutes}{_NBSP}min"


def _stage(shown: Moment, board: Board, stage: Stage) -> Iterator[str]:
    """Stage, agent, state with what it waits for, since when, and how long it has worked."""
    entry = board.entries[stage.name]
    yield stage.name
    yield stage.agent
    yield board.does(stage)
    is_waiting = entry.state is StageState.WAITING or entry.since is None
    yield "" if is_waiting else moment(entry.since or shown.now, shown.now)
    known = shown.expected.stages.get(stage.name) if shown.expected else None
    if entry.worked:
        yield span(entry.worked)
    elif entry.state is StageState.RUNNING and known and known.p50:
        yield f"of{_NBSP}≈{_NBSP}{span(timedelta(seconds=known.p50))}"
    else:
        yield ""


def _expected(shown: Moment, expected: Expected, board: Board) -> Iterator[str]:
    """When it is likely to end, reckoned from the stage that began last.

    From its start on, half of such requirements take no longer than that stage's p50, four of five
    no longer than its p80; what runs beside it is counted there.
    """
    begun = [
        (entry.since, name)
        for name, entry in board.entries.items()
        if entry.since and entry.state is StageState.RUNNING and name in expected.stages
    ]
    source = "" if expected.is_learned else ", by the pipeline file's minutes"
    if not begun or shown.state is not RequirementState.RUNNING:
        half, most = (span(timedelta(seconds=each)) for each in (expected.p50, expected.p80))
        yield f"It was expected to take {half} (p50), {most} (p80){source}; waiting not counted."
        return
    since, name = max(begun)
    rest = expected.stages[name]
    ends = (since + timedelta(seconds=each) for each in (rest.rest_p50, rest.rest_p80))
    half, most = (moment(each, shown.now) for each in ends)
    yield (
        f"Expected end: **{half}** (p50), **{most}** (p80) UTC,"
        f" as of the start of {name}{source}; waiting not counted."
    )
