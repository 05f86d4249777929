"""`report`: what one requirement, or many, planned, took, saved and cost; also as a page to keep.

The documents are a contract with scripts. Every figure comes from rows of the SDLC database, and
those that `status` and `costs` also show are made by the same code.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from adapters.files import write_atomically
from adapters.sdlc.views import EscalationView, PerformanceView, RequirementView
from cli import output, report_many
from cli.connections import records
from cli.costs import beginning
from cli.diff import Brought, brought
from cli.estimates import Rest, rest_of
from cli.running import AsJson, load_settings, run
from cli.status import cost_document, fix_document, money
from cli.trace import Trace, markdown, read_trace
from pipeline.costs import amount
from pipeline.durations import Kept
from pipeline.errors import RefusedInput
from pipeline.rates import Rates
from pipeline.report import RequirementReport, requirement_report
from pipeline.time_spent import END, Link, Part
from settings import Settings

EXAMPLES = {
    "report": """
Examples:

  python starter.py report REQ-101

  python starter.py report REQ-101 --html report.html

  python starter.py report REQ-101 --trace > trace.md

  python starter.py report --since 30d --compare
"""
}

_WHEN_WIDTH = 16
"""Columns of a stage's bar: with those of its figures it fits a terminal of 80."""
_SHOWN = 0.05
"""Seconds; what is shorter would be shown as 0.0 s."""


def report(
    req: Annotated[str | None, typer.Argument(help="A requirement; default: all.")] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", help="Of all: 30d, 24h, or a date such as 2026-11-01 (UTC)."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Of all: parallel beside sequential.")
    ] = False,
    trace: Annotated[
        bool,
        typer.Option("--trace", help="Of one: each run's prompt, answer and gates, as Markdown."),
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write a page that needs no network.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show plan and outcome, where time went, and what it cost.

    Without a number: what all requirements saved, how good their plans were, what failed. Those
    count that have ended since then, or have not ended.
    """
    if trace + as_json + (html is not None) > 1:
        raise RefusedInput("Give one of --json, --html and --trace.")
    if req is None and trace:
        raise RefusedInput("--trace is of one requirement: give its number.")
    if req is not None and (since or compare):
        raise RefusedInput("--since and --compare are of all requirements: leave out the number.")
    settings = load_settings()
    if req is None:
        begin = beginning(since, datetime.now(UTC)) if since else None
        _of_many(run(_rates(settings, begin)), begin, html, compare=compare, as_json=as_json)
    elif trace:
        output.write(markdown(run(_trace(settings, req))))
    else:
        _of_one(run(read_report(settings, req, with_trace=html is not None)), html, as_json=as_json)


# --- one requirement ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reported:
    """Everything that the report on one requirement shows."""

    view: RequirementView
    figures: RequirementReport
    performance: PerformanceView
    questions: tuple[EscalationView, ...]
    brought: Brought | None
    trace: Trace | None
    rest: Rest | None = None
    """How long it takes yet; None once it has ended."""
    kept: Kept | None = None
    """What was expected of one that is delivered, by earlier runs, and what came of it."""

    def sentences(self) -> Iterator[str]:
        """How it stands and why, what it brought, what parallel work saved."""
        view = self.view
        yield self._standing()
        yield f"Pipeline {view.pipeline}, {view.mode}, priority {view.priority}."
        if view.reason and not self.brought:
            yield output.first_line(view.reason)
        if view.waiting_for:
            yield f"It waits for {view.waiting_for}: see python starter.py status {view.number}"
        if self.brought:
            yield self.brought.line()
        yield self._savings()
        if self.rest:
            yield self.rest.line()
        if self.kept:
            expected, most, took = map(
                output.duration, (self.kept.p50, self.kept.p80, self.kept.took)
            )
            held = "p80 held" if self.kept.is_held else "p80 did not hold"
            yield (
                f"At its start {expected} (p50) and {most} (p80) of work were expected,"
                f" {took} came of it: {held}."
            )

    def _standing(self) -> str:
        """How it stands and how long it took, beside the plan."""
        history, view = self.figures.history, self.view
        if history.opened_at is None:
            return f"{view.number} is {view.state}; no host has taken it yet."
        took = output.duration(self.figures.wall.total_seconds())
        planned = output.duration(self.figures.planned.total_seconds())
        error = self.figures.plan_error
        beside = f" ({error:+g} %)" if error is not None else ""
        verb = "took" if history.ended_at else "has taken"
        return f"{view.number} is {view.state}; it {verb} {took}, {planned} were planned{beside}."

    def _savings(self) -> str:
        """What parallel work saved, as `status` tells it."""
        measured, planned = self.performance, self.figures.plan.percentage_saved
        return report_many.savings_line(
            measured.parallel_seconds,
            measured.sequential_seconds,
            measured.percentage_saved,
            planned,
            "" if self.view.state.is_final else " so far",
        )


async def read_report(settings: Settings, number: str, *, with_trace: bool) -> Reported:
    """The rows, and with its trace the prompts of this host. Raises: UnknownRequirement."""
    async with records(settings) as reader:
        view = await reader.requirement(number)
        return Reported(
            view,
            requirement_report(await reader.facts(number)),
            await reader.performance(number),
            await reader.escalations(number),
            await brought(settings, reader, view),
            await read_trace(settings, reader, view) if with_trace else None,
            await rest_of(settings, reader, view),
            (await reader.durations()).of(number) if view.state.is_final else None,
        )


async def _trace(settings: Settings, number: str) -> Trace:
    async with records(settings) as reader:
        return await read_trace(settings, reader, await reader.requirement(number))


def _of_one(found: Reported, html: Path | None, *, as_json: bool) -> None:
    if as_json:
        output.write_json(document(found))
    elif html is not None:
        from cli.report_page import page_of_one  # its template engine is for this alone

        _save(html, page_of_one(found))
    else:
        output.data().print(Group(*text(found)), crop=False)


def _save(path: Path, page: str) -> None:
    """Raises: RefusedInput if the file cannot be written."""
    try:
        write_atomically(path, page, durable=False)
    except OSError as error:
        raise RefusedInput(f"{str(path)!r} cannot be written: {error.strerror}.") from error
    output.say(f"Written: {path}")


def document(found: Reported) -> Mapping[str, object]:
    """The JSON of the report on one requirement; times are seconds."""
    view, figures = found.view, found.figures
    return {
        "req_number": view.number,
        "title": view.title,
        "state": view.state,
        "pipeline": view.pipeline,
        "mode": view.mode,
        "created_at": view.created_at,
        "opened_at": figures.history.opened_at,
        "ended_at": figures.history.ended_at,
        "planned_seconds": figures.planned.total_seconds(),
        "wall_seconds": figures.wall.total_seconds(),
        "plan_error_percent": figures.plan_error,
        "planned_saved_percent": figures.plan.percentage_saved,
        "performance": asdict(found.performance),
        "rest": found.rest.document() if found.rest else None,
        "expected": asdict(found.kept) if found.kept else None,
        "time": [
            {
                "part": part,
                "seconds": took.total_seconds(),
                "work_seconds": work.total_seconds() if work is not None else None,
            }
            for part, took, work in parts_of(figures)
        ],
        "critical_path": [_link_document(link) for link in figures.path],
        "planned_critical_path": figures.plan.critical_path,
        "stages": [
            {
                "stage": stage.stage,
                "agent": stage.agent,
                "state": stage.state,
                "planned_start_minute": stage.planned.start_minute if stage.planned else None,
                "planned_end_minute": stage.planned.end_minute if stage.planned else None,
                "started_at": stage.started_at,
                "ended_at": stage.ended_at,
                "worked_seconds": stage.worked.total_seconds(),
                "runs": stage.runs,
            }
            for stage in figures.stages
        ],
        "agents": [
            {
                "agent": each.agent,
                "runs": each.runs,
                "worked_seconds": each.worked.total_seconds(),
                **cost_document(each.cost),
            }
            for each in figures.agents
        ],
        "fixes": [fix_document(fix) for fix in view.fixes],
        "questions": len(found.questions),
        **cost_document(view.cost),
        "brought": found.brought.document() if found.brought else None,
    }


def _link_document(link: Link) -> Mapping[str, object]:
    return {
        "name": link.name,
        "agent": link.agent,
        "started_at": link.start,
        "ended_at": link.end,
        "seconds": link.length.total_seconds(),
        "delay_seconds": link.delay.total_seconds(),
        "waited_seconds": {part: took.total_seconds() for part, took in link.waited.items()},
    }


def parts_of(figures: RequirementReport) -> Iterator[tuple[Part, timedelta, timedelta | None]]:
    """Each part with what it took of the whole, and of work what it was added up."""
    for part, took in figures.parts.items():
        yield part, took, figures.work.get(part)


def text(found: Reported) -> Iterator[RenderableType]:
    """What people read."""
    view, figures = found.view, found.figures
    yield output.plain(f"{view.number} {output.first_line(view.title)}")
    yield from (output.plain(sentence) for sentence in found.sentences())
    if figures.stretches:
        yield "\nWhere the time went (each moment counts once):"
        yield _parts_table(figures)
        yield "The critical path, the work that the end waited for:"
        yield _path_table(figures)
    if figures.stages:
        yield "Planned and actual:"
        yield _stages_table(figures)
    if figures.agents:
        yield "By agent, fixes included:"
        yield _agents_table(figures)
        if view.cost.is_known:
            yield f"All together: {amount(view.cost) or 'no dollars are known'}."
    if view.fixes or found.questions:
        yield f"Fixes: {len(view.fixes)}. Questions to a human: {len(found.questions)}."


def _parts_table(figures: RequirementReport) -> Table:
    numbers = ("took", "%", "added up")
    rows = output.table("part", *numbers, "", numbers=numbers)
    whole = figures.wall
    for part, took, work in parts_of(figures):
        if took or work:
            rows.add_row(
                part,
                output.duration(took.total_seconds()),
                f"{100 * (took / whole):.1f}",
                output.duration(work.total_seconds()) if work is not None else "",
                output.bar(0, took / whole, 1) if took else "",
            )
    rows.add_row("all", output.duration(whole.total_seconds()), "100.0", "", "")
    return rows


def _path_table(figures: RequirementReport) -> Table:
    rows = output.table(
        "waited", "for", "then", "agent", "took", numbers=("waited", "took"), fold=("for", "then")
    )
    for link in figures.path:
        is_end = link.name == END
        rows.add_row(
            output.duration(link.delay.total_seconds()) if link.delay else "",
            waited_for(link),
            end_of(figures) if is_end else link.name,
            link.agent,
            "" if is_end else output.duration(link.length.total_seconds()),
        )
    return rows


def end_of(figures: RequirementReport) -> str:
    """What the critical path leads to."""
    return "the end" if figures.history.ended_at else "now"


def waited_for(link: Link) -> str:
    """What was waited for before a piece of the critical path, the longest first."""
    longest = sorted(link.waited.items(), key=lambda each: each[1], reverse=True)
    seconds = ((part, took.total_seconds()) for part, took in longest)
    return ", ".join(f"{part} {output.duration(took)}" for part, took in seconds if took >= _SHOWN)


def _stages_table(figures: RequirementReport) -> Table:
    numbers = ("planned", "worked")
    rows = output.table("stage", "agent", "state", *numbers, "when", numbers=numbers)
    path = {link.name for link in figures.path}
    opened, whole = figures.history.opened_at, figures.wall.total_seconds()
    for stage in figures.stages:
        start, end = stage.started_at, stage.ended_at or figures.history.end
        line = ""
        if start and opened:
            began, ended = ((each - opened).total_seconds() for each in (start, end))
            line = output.bar(began, ended, whole, _WHEN_WIDTH)
        planned = stage.planned
        rows.add_row(
            f"{stage.stage}*" if stage.stage in path else stage.stage,
            stage.agent,
            output.styled(stage.state),
            f"{planned.end_minute - planned.start_minute:g} min" if planned else "",
            output.duration(stage.worked.total_seconds()) if stage.runs else "",
            line,
        )
    rows.caption = "* critical path"
    return rows


def _agents_table(figures: RequirementReport) -> Table:
    is_known = any(each.cost.is_known for each in figures.agents)
    numbers = ("runs", "worked", *(("tokens", "cost") if is_known else ()))
    rows = output.table("agent", *numbers, numbers=numbers)
    for each in figures.agents:
        worked = output.duration(each.worked.total_seconds())
        costs = money(each.cost) if is_known else ()
        rows.add_row(each.agent, str(each.runs), worked, *costs)
    return rows


# --- many requirements ----------------------------------------------------------------------------


async def _rates(settings: Settings, since: datetime | None) -> Rates:
    async with records(settings) as reader:
        return await reader.rates(since)


def _of_many(
    found: Rates, since: datetime | None, html: Path | None, *, compare: bool, as_json: bool
) -> None:
    if as_json:
        output.write_json(report_many.document(found, since))
    elif html is not None:
        from cli.report_page import page_of_many  # its template engine is for this alone

        _save(html, page_of_many(found, since))
    else:
        output.data().print(Group(*report_many.text(found, since, compare=compare)), crop=False)
