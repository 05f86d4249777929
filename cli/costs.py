"""`costs`: tokens and dollars of runs, summed by what they have in common."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from adapters.sdlc.views import CostLine
from cli import output
from cli.connections import records
from cli.running import AsJson, load_settings, run
from cli.status import budget_document, cost_document, costs_line
from pipeline.budgets import Budget
from pipeline.costs import By, amount, counted
from pipeline.errors import RefusedInput
from pipeline.model import NO_COST, Cost
from settings import Settings

EXAMPLES = {
    "costs": """
Examples:

  python starter.py costs REQ-101

  python starter.py costs --by day --since 7d

  python starter.py costs REQ-101 --by run --json
"""
}

_SPAN = re.compile(r"(\d{1,6})([dh])")
_UNITS = {"d": "days", "h": "hours"}


def costs(
    req: Annotated[
        str | None, typer.Argument(help="A requirement, its fixes included; default: all.")
    ] = None,
    by: Annotated[
        By | None,
        typer.Option("--by", help="Default: stage of one requirement, else requirement."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="7d, 24h, or a date such as 2026-11-01 (UTC).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what runs cost, in tokens and dollars.

    Dollars are those that the agents' programs tell; ≈ marks those that are estimated from tokens.
    """
    by = by or (By.STAGE if req else By.REQUIREMENT)
    begin = beginning(since, datetime.now(UTC)) if since else None
    found, budgets = run(_costs(load_settings(), by, req, begin))
    whole = sum((line.cost for line in found), NO_COST)
    if as_json:
        lines = [_document(line) for line in found]
        total, limits = cost_document(whole), [budget_document(each) for each in budgets]
        document = {"by": by, "since": begin, "costs": lines, "total": total, "budgets": limits}
        output.write_json(document)
        return
    if found:
        _show(by, found, whole)
    else:
        output.write("No run of an agent has told tokens or dollars.")
    for budget in budgets:
        output.write(f"The {budget.name}: {budget.used} are spent.")


async def _costs(
    settings: Settings, by: By, number: str | None, since: datetime | None
) -> tuple[tuple[CostLine, ...], tuple[Budget, ...]]:
    async with records(settings) as reader:
        if number is not None:
            await reader.requirement(number)  # raises UnknownRequirement
        return await reader.costs(by, number, since), await reader.budgets(number or "")


def beginning(since: str, now: datetime) -> datetime:
    """The moment that a span before now, or a date, names. Raises: RefusedInput."""
    if span := _SPAN.fullmatch(since):
        try:
            return now - timedelta(**{_UNITS[span[2]]: int(span[1])})
        except OverflowError:
            raise RefusedInput(f"--since {since}: nothing is that old.") from None
    try:
        return datetime.strptime(since, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise RefusedInput(
            f"--since {since}: give a span such as 7d or 24h, or a date such as 2026-11-01."
        ) from None


def _document(line: CostLine) -> dict[str, object]:
    return {
        "key": line.key,
        "runs": line.runs,
        "seconds": line.seconds,
        **cost_document(line.cost),
    }


def _show(by: By, found: Sequence[CostLine], whole: Cost) -> None:
    figures = ("runs", "in", "cached", "out", "took", "cost")
    rows = output.table(by, *figures, numbers=figures, fold=(by,))
    for line in found:
        rows.add_row(
            output.plain(line.key) or "none",
            str(line.runs),
            *_tokens(line.cost),
            output.duration(line.seconds),
            amount(line.cost),
        )
    output.data().print(rows)
    output.write(costs_line(whole))


def _tokens(cost: Cost) -> tuple[str, str, str]:
    tokens = cost.tokens
    if tokens is None:
        return "", "", ""
    return counted(tokens.input), counted(tokens.cached), counted(tokens.output)
