"""The page of a report: one file that needs no network, script or font from elsewhere.

The templates beside this module escape every value; a chart is computed here in percent of its
width, so that it fits any screen.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cli import output, report_many, trace
from cli.report import Reported, end_of, parts_of, waited_for
from cli.trace import Record, Trace
from pipeline.costs import amount
from pipeline.history import History, RunTimes, Wait, WaitKind
from pipeline.model import Interval
from pipeline.rates import Period, Rates, Summary
from pipeline.report import RequirementReport
from pipeline.schedule import Schedule
from pipeline.time_spent import END

_TEXT_LENGTH = 20_000
"""Characters of a prompt, answer or error; the whole stands in `--trace`."""
_TICKS = 4
_LEAST_PERCENT = 0.3
"""Width of even the shortest bar: it must be seen."""


@dataclass(frozen=True)
class Bar:
    """A bar of a chart, in percent of its width; `kind` is its colour, `told` its tooltip."""

    kind: str
    start: float
    width: float
    told: str


@dataclass(frozen=True)
class Line:
    """A line of a chart: its bars, and what stands above them."""

    label: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True)
class Chart:
    """Lines on one axis; `ticks` are places in percent with their labels."""

    title: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    kinds: tuple[str, ...] = ()
    """For the legend."""


@dataclass(frozen=True)
class Grid:
    """A table: the columns in `numbers` are figures."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[str, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A record that can be opened: facts, and texts under their headings."""

    title: str
    kind: str
    facts: tuple[tuple[str, str], ...]
    texts: tuple[tuple[str, str], ...] = field(default=())


def page_of_one(found: Reported) -> str:
    """The page of one requirement, each of its records included."""
    view, figures = found.view, found.figures
    charts = [_as_it_ran(figures, view.number), _as_planned(figures.plan)]
    return _render(
        title=f"{view.number} {view.title}",
        heading=view.number,
        subtitle=view.title,
        state=str(view.state),
        sentences=list(found.sentences()),
        cards=_cards(found),
        charts=[chart for chart in charts if chart.lines],
        shares=_shares(figures),
        grids=[grid for grid in _grids(found) if grid.rows],
        sections=list(_sections(found.trace)) if found.trace else [],
        more=f"python starter.py report {view.number} --trace",
        trend=None,
    )


def page_of_many(found: Rates, since: datetime | None) -> str:
    """The page of many requirements."""
    return _render(
        title="Requirements",
        heading="Requirements",
        subtitle=f"since {output.moment(since)}" if since else "all that are known",
        state="",
        sentences=list(report_many.sentences(found, since)),
        cards=_cards_of_many(found.summary),
        charts=[],
        shares=[],
        grids=[grid for grid in _grids_of_many(found) if grid.rows],
        sections=[],
        more="",
        trend=_trend(found.trend) if len(found.trend) > 1 else None,
    )


def _render(**values: object) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    made = output.moment(datetime.now(UTC))
    return environment.get_template("report_page.html").render(made=made, **values)


def _printable(value: object) -> object:
    """A text of others without control characters; what is markup of ours stays."""
    return (
        output.plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
    )


# --- one requirement ------------------------------------------------------------------------------


def _cards(found: Reported) -> list[tuple[str, str]]:
    figures, view = found.figures, found.view
    return [
        ("took", _took(figures.wall)),
        ("planned", _took(figures.planned)),
        ("saved", f"{found.performance.percentage_saved:g} %"),
        ("cost", amount(view.cost) or "–"),
        ("fixes", str(len(view.fixes))),
        ("questions", str(len(found.questions))),
    ]


@dataclass(frozen=True)
class _Axis:
    """Turns moments into percent of a chart's width."""

    begin: datetime
    end: datetime

    def bar(self, kind: str, start: datetime, end: datetime, told: str) -> Bar | None:
        """None for what lies outside."""
        first, last = max(start, self.begin), min(end, self.end)
        if first > last or self.end <= self.begin:
            return None
        whole = self.end - self.begin
        width = max(_LEAST_PERCENT, 100 * ((last - first) / whole))
        place = min(100 * ((first - self.begin) / whole), 100 - width)
        took = _took(end - start)
        return Bar(kind, round(max(0.0, place), 3), round(width, 3), f"{told}: {took}")


def _ticks(whole: timedelta) -> tuple[tuple[float, str], ...]:
    return tuple(
        (100 * place / _TICKS, _took(whole * place / _TICKS)) for place in range(_TICKS + 1)
    )


def _as_it_ran(figures: RequirementReport, number: str) -> Chart:
    """Stages, builds, fixes and waits as they lay in time."""
    history = figures.history
    if history.opened_at is None or not figures.wall:
        return Chart("As it ran", (), ())
    axis = _Axis(history.opened_at, history.end)
    lines = [
        _run_line(history, axis, f"{stage.stage} · {stage.agent} · {stage.state}", runs)
        for stage in figures.stages
        if (runs := [r for r in history.runs if r.number == number and r.stage == stage.stage])
    ]
    for gate in dict.fromkeys(build.gate for build in history.builds):
        mine = [build for build in history.builds if build.gate == gate]
        bars = (
            axis.bar(
                "builds" if each.verdict == "green" else "red",
                each.started_at,
                each.ended_at,
                f"{gate}, {each.verdict}",
            )
            for each in mine
        )
        lines.append(Line(f"{gate} · {len(mine)} ×", tuple(filter(None, bars))))
    fixes = dict.fromkeys(run.number for run in history.runs if history.is_of_fix(run))
    for fix in fixes:
        runs = [run for run in history.runs if run.number == fix]
        lines.append(_run_line(history, axis, f"{fix} · {runs[0].agent}", runs, "fixes"))
    lines += _wait_lines(history, axis)
    used = dict.fromkeys(bar.kind for line in lines for bar in line.bars)
    return Chart("As it ran", tuple(lines), _ticks(figures.wall), tuple(used))


def _run_line(
    history: History, axis: _Axis, label: str, runs: Sequence[RunTimes], kind: str = "agents"
) -> Line:
    bars: list[Bar | None] = []
    for run in runs:
        name = f"{run.stage}, attempt {run.attempt}"
        began = run.started_at or run.closed_at or history.end
        bars.append(axis.bar("queue", run.opened_at, began, f"{name}, its start"))
        if run.prepare_started_at:
            prepared = run.prepare_ended_at or began
            told = f"{name}, its clone is prepared"
            bars.append(axis.bar("preparing", run.prepare_started_at, prepared, told))
        work = history.work(run)
        span = history.span(run)
        if span and sum((w.end - w.start for w in work), timedelta()) < span.end - span.start:
            bars.append(axis.bar("holds", span.start, span.end, f"{name}, suspended"))
        is_red = run.state.is_red
        bars += [axis.bar("red" if is_red else kind, w.start, w.end, name) for w in work]
        if run.ended_at and run.closed_at:
            bars.append(axis.bar("merges", run.ended_at, run.closed_at, f"{name}, its merge"))
    return Line(label, tuple(filter(None, bars)))


_WAITS = {
    WaitKind.HUMAN: ("humans", "questions to a human"),
    WaitKind.LIMIT: ("limits", "accounts and budgets"),
    WaitKind.HOLD: ("holds", "held"),
    WaitKind.SLOT: ("queue", "queued for a slot"),
}


def _wait_lines(history: History, axis: _Axis) -> Iterator[Line]:
    for kind, (colour, label) in _WAITS.items():
        waits = [wait for wait in history.waits if wait.kind is kind]
        bars = (
            axis.bar(colour, each.start, each.end or history.end, _wait_text(each))
            for each in waits
        )
        if shown := tuple(filter(None, bars)):
            yield Line(label, shown)


def _wait_text(wait: Wait) -> str:
    return f"{wait.boundary}: {output.first_line(wait.reason)}" if wait.reason else wait.boundary


def _as_planned(plan: Schedule) -> Chart:
    """The schedule, in the minutes of the pipeline's file."""
    begin = datetime(1970, 1, 1, tzinfo=UTC)
    axis = _Axis(begin, begin + plan.makespan)
    lines = []
    for stage in plan.stages:
        span = Interval(
            begin + timedelta(minutes=stage.start_minute),
            begin + timedelta(minutes=stage.end_minute),
        )
        kind = "critical" if stage.stage in plan.critical_path else "agents"
        bar = axis.bar(kind, span.start, span.end, stage.stage)
        lines.append(Line(f"{stage.stage} · {stage.agent}", (bar,) if bar else ()))
    ticks = _ticks(plan.makespan) if lines else ()
    return Chart("As planned", tuple(lines), ticks, ("agents", "critical") if lines else ())


def _shares(figures: RequirementReport) -> list[Bar]:
    """Each part of the whole time, side by side."""
    whole, bars, place = figures.wall, [], 0.0
    for part, took, _ in parts_of(figures):
        if took:
            width = 100 * (took / whole)
            told = f"{part}: {_took(took)}, {width:.1f} %"
            bars.append(Bar(part, round(place, 3), round(width, 3), told))
            place += width
    return bars


def _grids(found: Reported) -> Iterator[Grid]:
    figures = found.figures
    yield _parts_grid(figures)
    yield _path_grid(figures)
    yield Grid(
        "Planned and actual",
        ("stage", "agent", "state", "planned", "worked", "runs"),
        tuple(
            (
                each.stage,
                each.agent,
                str(each.state),
                f"{each.planned.end_minute - each.planned.start_minute:g} min"
                if each.planned
                else "–",
                _took(each.worked) if each.runs else "–",
                str(each.runs or "–"),
            )
            for each in figures.stages
        ),
        ("planned", "worked", "runs"),
    )
    yield Grid(
        "By agent, fixes included",
        ("agent", "runs", "worked", "tokens", "cost"),
        tuple(
            (
                each.agent,
                str(each.runs),
                _took(each.worked),
                f"{each.cost.tokens.total:,}" if each.cost.tokens else "–",
                amount(each.cost) or "–",
            )
            for each in figures.agents
        ),
        ("runs", "worked", "tokens", "cost"),
    )
    yield Grid(
        "Fixes",
        ("fix", "owner", "gate", "state", "cost"),
        tuple(
            (fix.number, fix.assignee, fix.gate, str(fix.state), amount(fix.cost) or "–")
            for fix in found.view.fixes
        ),
        ("cost",),
    )
    yield _waits_grid(figures.history)


def _parts_grid(figures: RequirementReport) -> Grid:
    return Grid(
        "Where the time went",
        ("part", "took", "share", "added up"),
        (
            *(
                (
                    str(part),
                    _took(took),
                    f"{100 * (took / figures.wall):.1f} %" if figures.wall else "–",
                    _took(work) if work is not None else "–",
                )
                for part, took, work in parts_of(figures)
                if took or work
            ),
            *((("all", _took(figures.wall), "100.0 %", "–"),) if figures.wall else ()),
        ),
        ("took", "share", "added up"),
        "Each moment counts once, for the first of these that was under way; so the parts add up."
        " Work of several at once is added up in the last column.",
    )


def _path_grid(figures: RequirementReport) -> Grid:
    return Grid(
        "The critical path",
        ("waited", "for", "then", "agent", "took"),
        tuple(
            (
                _took(link.delay) if link.delay else "–",
                waited_for(link) or "–",
                end_of(figures) if link.name == END else link.name,
                link.agent or "–",
                "–" if link.name == END else _took(link.length),
            )
            for link in figures.path
        ),
        ("waited", "took"),
        "The work that the end waited for; what it waited and took adds up to the whole.",
    )


def _waits_grid(history: History) -> Grid:
    return Grid(
        "Waits",
        ("for", "at", "since", "took", "why"),
        tuple(
            (
                _WAITS[wait.kind][1],
                wait.boundary,
                output.moment(wait.start),
                _took((wait.end or history.end) - wait.start) + ("" if wait.end else ", open"),
                output.first_line(wait.reason) or "–",
            )
            for wait in history.waits
        ),
        ("took",),
    )


# --- records --------------------------------------------------------------------------------------


def _sections(found: Trace) -> Iterator[Section]:
    for record in found.records:
        yield _section(found, record)
    for question in found.questions:
        facts = tuple(pair for pair in trace.question_lines(question) if pair[1])
        yield Section(f"Question {question.escalation} to a human", "asked", facts)
    if found.notes:
        notes = tuple(trace.note_line(note) for note in found.notes)
        yield Section("What set it going again", "asked", notes)


def _section(found: Trace, record: Record) -> Section:
    gates = tuple(trace.gate_line(gate) for gate in record.gates)
    failures = tuple(
        (
            f"Red: {each.gate}",
            "\n".join(f"{name}: {value}" for name, value in trace.failure_lines(each))
            + f"\n\n{each.error}",
        )
        for each in record.failures
    )
    prompt = record.prompt if record.prompt is not None else record.no_prompt
    texts = (("Prompt", prompt), ("Answer", record.answer or "No notice was accepted."), *failures)
    return Section(
        trace.record_name(found, record),
        str(record.run.state),
        tuple(pair for pair in (*record.lines(), *gates) if pair[1]),
        tuple((name, _bounded(text)) for name, text in texts),
    )


def _bounded(text: str) -> str:
    if len(text) <= _TEXT_LENGTH:
        return text
    return f"{text[:_TEXT_LENGTH]}\n… {len(text) - _TEXT_LENGTH:,} more characters: see --trace"


# --- many requirements ----------------------------------------------------------------------------


def _cards_of_many(told: Summary) -> list[tuple[str, str]]:
    each = told.cost_per_delivery
    return [
        ("requirements", str(told.requirements)),
        ("delivered", report_many.percent(told.delivered_percent)),
        ("saved", report_many.percent(told.saved_percent)),
        ("plan error", report_many.signed(told.plan_error_p50)),
        ("cost", amount(told.cost) or "–"),
        ("cost of each", amount(each) if each else "–"),
    ]


def _grids_of_many(found: Rates) -> Iterator[Grid]:
    yield Grid(
        "How long stages take, in the latest requirements",
        ("pipeline", "stage", "agent", "kind", "runs", "p50", "p80"),
        tuple(map(report_many.duration_row, found.durations.figures())),
        ("runs", "p50", "p80"),
    )
    yield Grid(
        "Parallel beside sequential",
        ("pipeline", "mode", "delivered", "median", "saved", "plan error", "fixes"),
        tuple(
            (
                each.pipeline,
                mode,
                str(told.delivered),
                _took(told.wall_p50) if told.wall_p50 is not None else "–",
                report_many.percent(told.saved_percent),
                report_many.signed(told.plan_error_p50),
                str(told.fixes),
            )
            for each in found.comparisons
            for mode, told in (("parallel", each.parallel), ("sequential", each.sequential))
        ),
        ("delivered", "median", "saved", "plan error", "fixes"),
        " ".join(map(report_many.comparison_line, found.comparisons)),
    )
    yield Grid(
        "Failures and fixes by agent and kind of program",
        ("agent", "kind", "runs", "failed", "failure rate", "fixes", "fix rate", "worked", "cost"),
        tuple(
            (
                each.agent,
                each.kind or "other",
                str(each.runs),
                str(each.failed),
                report_many.percent(each.failure_percent),
                str(each.fixes),
                report_many.percent(each.fix_percent),
                output.duration(each.seconds),
                amount(each.cost) or "–",
            )
            for each in found.agents
        ),
        ("runs", "failed", "failure rate", "fixes", "fix rate", "worked", "cost"),
    )
    yield Grid(
        "Failures by kind",
        ("kind", "failures", "requirements", "open"),
        tuple(
            (str(each.kind), str(each.failures), str(each.requirements), str(each.unresolved))
            for each in found.kinds
        ),
        ("failures", "requirements", "open"),
    )
    yield Grid(
        "Trend",
        ("from", "days", "ended", "delivered", "saved", "plan error", "fixes", "cost"),
        tuple(
            (
                period.first.isoformat(),
                str(period.days),
                str(period.summary.ended),
                report_many.percent(period.summary.delivered_percent),
                report_many.percent(period.summary.saved_percent),
                report_many.signed(period.summary.plan_error_p50),
                str(period.summary.fixes),
                amount(period.summary.cost) or "–",
            )
            for period in found.trend
        ),
        ("days", "ended", "delivered", "saved", "plan error", "fixes", "cost"),
    )
    yield Grid(
        "Requirements",
        ("requirement", "state", "took", "planned", "saved", "cost", "title"),
        tuple(
            (
                each.number,
                str(each.state),
                _took(each.performance.wall) if each.performance.wall else "–",
                _took(each.planned),
                f"{each.performance.savings.percentage_saved:g} %",
                amount(each.cost) or "–",
                each.title,
            )
            for each in found.outcomes
        ),
        ("took", "planned", "saved", "cost"),
    )


def _trend(periods: Sequence[Period]) -> Mapping[str, object]:
    """Columns of what parallel work saved, one for each period."""
    width = 100 / len(periods)
    columns = []
    for index, period in enumerate(periods):
        told = period.summary
        saved = report_many.percent(told.saved_percent)
        columns.append(
            {
                "place": round(index * width + width * 0.1, 3),
                "width": round(width * 0.8, 3),
                "height": told.saved_percent or 0.0,
                "told": f"{period.first.isoformat()}: {saved} saved, {told.ended} ended",
            }
        )
    highest = max((period.summary.saved_percent or 0.0 for period in periods), default=0.0)
    return {
        "columns": columns,
        "highest": max(10.0, highest),
        "first": periods[0].first.isoformat(),
        "last": periods[-1].first.isoformat(),
    }


def _took(time: timedelta) -> str:
    return output.duration(max(0.0, time.total_seconds()))
