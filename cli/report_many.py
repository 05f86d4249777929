"""What `report` says of many requirements: as a JSON document and as text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime

from rich.console import RenderableType
from rich.table import Table

from cli import output
from cli.status import cost_document
from pipeline.costs import amount
from pipeline.durations import Figures
from pipeline.rates import FEW, Comparison, Outcome, Rates, Summary

_TITLE_LENGTH = 60


def document(found: Rates, since: datetime | None) -> Mapping[str, object]:
    """The JSON of the report on many requirements; times are seconds."""
    return {
        "since": since,
        **_summary_document(found.summary),
        "agents": [
            {
                "agent": each.agent,
                "kind": each.kind,
                "runs": each.runs,
                "failed": each.failed,
                "failure_percent": each.failure_percent,
                "fixes": each.fixes,
                "fix_percent": each.fix_percent,
                "seconds": each.seconds,
                **cost_document(each.cost),
            }
            for each in found.agents
        ],
        "failures": [asdict(kind) for kind in found.kinds],
        "trend": [
            {
                "first": period.first.isoformat(),
                "days": period.days,
                **_summary_document(period.summary),
            }
            for period in found.trend
        ],
        "comparisons": [
            {
                "pipeline": each.pipeline,
                "is_telling": each.is_telling,
                "faster_percent": each.faster_percent,
                "parallel": _summary_document(each.parallel),
                "sequential": _summary_document(each.sequential),
            }
            for each in found.comparisons
        ],
        "durations": [
            {**asdict(each.subject), "runs": each.runs, "p50": each.p50, "p80": each.p80}
            for each in found.durations.figures()
        ],
        "p80_held_percent": found.durations.held_percent,
        "p80_held_of": len(found.durations.kept),
        "outcomes": [_outcome_document(each) for each in found.outcomes],
    }


def _summary_document(told: Summary) -> Mapping[str, object]:
    return {
        "requirements": told.requirements,
        "states": told.states,
        "ended": told.ended,
        "delivered": told.delivered,
        "delivered_percent": told.delivered_percent,
        "sequential_seconds": told.sequential.total_seconds(),
        "parallel_seconds": told.parallel.total_seconds(),
        "saved_seconds": told.saved.total_seconds(),
        "saved_percent": told.saved_percent,
        "planned_saved_percent": told.planned_saved_percent,
        "plan_error_p50": told.plan_error_p50,
        "plan_error_p80": told.plan_error_p80,
        "wall_p50_seconds": told.wall_p50.total_seconds() if told.wall_p50 is not None else None,
        "fixes": told.fixes,
        "questions": told.questions,
        "usd_per_delivery": each.usd if (each := told.cost_per_delivery) else None,
        **cost_document(told.cost),
    }


def _outcome_document(each: Outcome) -> Mapping[str, object]:
    measured = each.performance
    return {
        "req_number": each.number,
        "title": each.title,
        "state": each.state,
        "mode": each.mode,
        "pipeline": each.pipeline,
        "created_at": each.created_at,
        "ended_at": each.ended_at,
        "planned_seconds": each.planned.total_seconds(),
        "wall_seconds": measured.wall.total_seconds(),
        "plan_error_percent": each.plan_error,
        "sequential_seconds": measured.savings.sequential.total_seconds(),
        "parallel_seconds": measured.savings.parallel.total_seconds(),
        "percentage_saved": measured.savings.percentage_saved,
        "fixes": each.fixes,
        "questions": each.questions,
        **cost_document(each.cost),
    }


def sentences(found: Rates, since: datetime | None) -> Iterator[str]:
    """What many requirements came to, in a few sentences."""
    told = found.summary
    after = f" since {output.moment(since)}" if since else ""
    if not told.requirements:
        yield f"No requirement has ended{after}, and none is open."
        return
    states = ", ".join(f"{count} {state}" for state, count in told.states.items())
    noun = "requirement" if told.requirements == 1 else "requirements"
    yield f"{told.requirements} {noun}{after}: {states}."
    if told.ended:
        parallel, sequential = told.parallel.total_seconds(), told.sequential.total_seconds()
        yield savings_line(parallel, sequential, told.saved_percent, told.planned_saved_percent)
    if told.wall_p50 is not None:
        yield (
            f"Delivered: {percent(told.delivered_percent)} of those that ended, half of them within"
            f" {output.duration(told.wall_p50.total_seconds())}; plan error"
            f" {signed(told.plan_error_p50)} (median), {signed(told.plan_error_p80)} (four of five"
            " do not exceed it)."
        )
    cost = ""
    if told.cost.is_known:
        each = told.cost_per_delivery
        per = f", {amount(each)} for each that was delivered" if each else ""
        cost = f" Cost: {amount(told.cost) or 'unknown'}{per}."
    yield f"Fixes: {told.fixes}. Questions to a human: {told.questions}.{cost}"
    held = found.durations.held_percent
    if held is not None:
        yield (
            f"The p80 that was expected at the start held for {percent(held)} of"
            f" {len(found.durations.kept)} that were delivered: it is to hold for 80 %."
        )


def savings_line(
    parallel: float, sequential: float, saved: float | None, planned: float | None, until: str = ""
) -> str:
    """What work in parallel took, in seconds, beside one after another; shares in percent."""
    took, instead = output.duration(parallel), output.duration(sequential)
    return (
        f"{took} of work instead of {instead}{until}: {percent(saved)} saved,"
        f" {percent(planned)} planned."
    )


def percent(value: float | None) -> str:
    """A share; a dash where nothing tells."""
    return "–" if value is None else f"{value:g} %"


def signed(value: float | None) -> str:
    """A difference in percent; a dash where nothing tells."""
    return "–" if value is None else f"{value:+g} %"


def text(found: Rates, since: datetime | None, *, compare: bool) -> Iterator[RenderableType]:
    """Sentences and tables; with `compare` those that set parallel beside sequential."""
    yield from sentences(found, since)
    if compare:
        yield "\nParallel beside sequential, what was delivered:"
        yield _comparisons_table(found.comparisons)
        yield from (comparison_line(each) for each in found.comparisons)
        return
    if found.outcomes:
        yield _outcomes_table(found.outcomes)
    if found.agents:
        yield "Failures and fixes by agent and kind of program:"
        yield _rates_table(found)
    if found.kinds:
        yield "Failures by kind:"
        yield _kinds_table(found)
    if found.durations.figures():
        yield "How long stages take, in the latest requirements:"
        yield _durations_table(found)
    if len(found.trend) > 1:
        yield "Trend:"
        yield _trend_table(found)


def _outcomes_table(outcomes: Sequence[Outcome]) -> Table:
    costs = ("cost",) if any(each.cost.is_known for each in outcomes) else ()
    numbers = ("took", "planned", "saved", *costs)
    rows = output.table("requirement", "state", *numbers, "title", numbers=numbers, fold=("title",))
    for each in outcomes:
        wall = each.performance.wall.total_seconds()
        rows.add_row(
            each.number,
            output.styled(each.state),
            output.duration(wall) if wall else "",
            output.duration(each.planned.total_seconds()),
            f"{each.performance.savings.percentage_saved:g} %",
            *((amount(each.cost),) if costs else ()),
            output.plain(each.title)[:_TITLE_LENGTH],
        )
    return rows


def _rates_table(found: Rates) -> Table:
    numbers = ("runs", "failed", "failure rate", "fixes", "fix rate", "worked", "cost")
    rows = output.table("agent", "kind", *numbers, numbers=numbers)
    for each in found.agents:
        rows.add_row(
            each.agent,
            each.kind or "other",
            str(each.runs),
            str(each.failed),
            percent(each.failure_percent),
            str(each.fixes),
            percent(each.fix_percent),
            output.duration(each.seconds),
            amount(each.cost),
        )
    return rows


def _kinds_table(found: Rates) -> Table:
    numbers = ("failures", "requirements", "open")
    rows = output.table("kind", *numbers, numbers=numbers)
    for each in found.kinds:
        figures = (each.failures, each.requirements, each.unresolved)
        rows.add_row(each.kind, *map(str, figures))
    return rows


def _durations_table(found: Rates) -> Table:
    numbers = ("runs", "p50", "p80")
    columns = ("pipeline", "stage", "agent", "kind")
    rows = output.table(*columns, *numbers, numbers=numbers, fold=("pipeline", "stage"))
    for each in found.durations.figures():
        rows.add_row(*duration_row(each))
    return rows


def duration_row(each: Figures) -> tuple[str, ...]:
    """How long runs took, as columns."""
    whose = each.subject
    times = (output.duration(each.p50), output.duration(each.p80))
    return whose.pipeline, whose.stage, whose.agent, whose.kind or "other", str(each.runs), *times


def _trend_table(found: Rates) -> Table:
    numbers = ("ended", "delivered", "saved", "plan error", "fixes", "cost")
    rows = output.table("from", "days", *numbers, numbers=("days", *numbers))
    for period in found.trend:
        told = period.summary
        rows.add_row(
            period.first.isoformat(),
            str(period.days),
            str(told.ended),
            percent(told.delivered_percent),
            percent(told.saved_percent),
            signed(told.plan_error_p50),
            str(told.fixes),
            amount(told.cost),
        )
    return rows


def _comparisons_table(comparisons: Sequence[Comparison]) -> Table:
    numbers = ("delivered", "median", "saved", "plan error", "fixes", "cost of each")
    rows = output.table("pipeline", "mode", *numbers, numbers=numbers)
    for each in comparisons:
        for mode, told in (("parallel", each.parallel), ("sequential", each.sequential)):
            cost, wall = told.cost_per_delivery, told.wall_p50
            rows.add_row(
                each.pipeline,
                mode,
                str(told.delivered),
                output.duration(wall.total_seconds()) if wall is not None else "–",
                percent(told.saved_percent),
                signed(told.plan_error_p50),
                str(told.fixes),
                amount(cost) if cost else "",
            )
    return rows


def comparison_line(each: Comparison) -> str:
    """What the comparison of one pipeline says, or why it says little."""
    if each.faster_percent is None:
        missing = "sequential" if each.parallel.delivered else "parallel"
        return f"{each.pipeline}: nothing to compare, no {missing} one was delivered."
    said = f"{each.pipeline}: the median parallel one took {each.faster_percent:g} % less time"
    if each.faster_percent < 0:
        said = f"{each.pipeline}: the median parallel one took {-each.faster_percent:g} % more time"
    few = "" if each.is_telling else f" (fewer than {FEW} on a side: it says little)"
    return f"{said} than the median sequential one{few}."
