"""What runs cost: charged once with the row of their end, and summed for people.

Where a program tells no dollars, they are estimated from tokens and published prices.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ARRAY, Label, Select, Text, any_, bindparam, func, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.tables import CostRow, FixRow, RequirementRow, RunRow
from pipeline.costs import By
from pipeline.forecast import Sample
from pipeline.model import NO_COST, Cost, Ending, ProgramReport, RequirementState, RunResult, Tokens

_CHARGED = (
    select(
        func.coalesce(func.sum(CostRow.input_tokens), 0).label("input"),
        func.coalesce(func.sum(CostRow.output_tokens), 0).label("output"),
        func.coalesce(func.sum(CostRow.cached_tokens), 0).label("cached"),
    )
    .join(RunRow, RunRow.run_id == CostRow.run_id)
    .where(RunRow.session == bindparam("session"), RunRow.run_id != bindparam("run_id"))
)
"""What earlier runs in a session have been charged with."""

Row = Mapping[str, Any]


async def cost_of(connection: AsyncConnection, run_id: str, result: RunResult) -> Cost:
    """What a run cost, and no more than that: what earlier runs of its session took is left out."""
    report = result.report
    if report is None:
        return NO_COST
    usage, tokens, to_estimate = report.usage, report.tokens, report.to_estimate
    if report.counts_session and report.session and usage:
        key = {"session": report.session, "run_id": run_id}
        row = (await connection.execute(_CHARGED, key)).mappings().one()
        earlier = Tokens(int(row["input"]), int(row["output"]), int(row["cached"]))
        tokens = tokens - earlier if tokens else None
        to_estimate = {model: each - earlier for model, each in to_estimate.items()}
    estimated = estimate(to_estimate)
    dollars = [usd for usd in (report.cost_usd, estimated) if usd is not None]
    is_unpriced = estimated is None and any(each.total for each in to_estimate.values())
    is_free = report.cost_usd == 0 and is_unpriced
    return Cost(
        tokens=tokens,
        usd=sum(dollars) if dollars and not is_free else None,
        is_estimated=estimated is not None,
        is_partial=is_unpriced or report.ending is Ending.CUT_OFF,
    )


def cost_columns(result: RunResult, cost: Cost) -> dict[str, Any]:
    """A run's time and cost, as the columns of its row."""
    report: ProgramReport | None = result.report
    tokens = cost.tokens
    return {
        "seconds": result.elapsed.total_seconds(),
        "usd": cost.usd,
        "is_estimated": cost.is_estimated,
        "is_partial": cost.is_partial,
        "tokens": tokens.total if tokens else None,
        "input_tokens": tokens.input if tokens else None,
        "cached_tokens": tokens.cached if tokens else None,
        "output_tokens": tokens.output if tokens else None,
        "account": report.account if report else "",
        "kind": report.kind if report else "",
        "models": list(report.models) if report else [],
    }


def cost_of_row(row: Row) -> Cost:
    """The cost that a row, or a sum of rows, holds."""
    tokens = None
    if row["input_tokens"] is not None:
        counts = (row[f"{name}_tokens"] for name in ("input", "output", "cached"))
        tokens = Tokens(*(int(each or 0) for each in counts))
    return Cost(tokens, row["usd"], bool(row["is_estimated"]), bool(row["is_partial"]))


COST_COLUMNS = (
    CostRow.usd,
    CostRow.input_tokens,
    CostRow.output_tokens,
    CostRow.cached_tokens,
    CostRow.is_estimated,
    CostRow.is_partial,
)
"""The columns of a cost."""


def cost_fields(cost: Cost) -> dict[str, object]:
    """A cost as an event tells it; empty if nothing is told."""
    if not cost.is_known:
        return {}
    tokens = cost.tokens
    return {
        "usd": cost.usd,
        "usdIsEstimated": cost.is_estimated,
        "usdIsPartial": cost.is_partial,
        "inputTokens": tokens.input if tokens else None,
        "cachedTokens": tokens.cached if tokens else None,
        "outputTokens": tokens.output if tokens else None,
    }


# --- sums for people ------------------------------------------------------------------------------

_COUNTS = ("usd", "input_tokens", "output_tokens", "cached_tokens")
_MARKS = ("is_estimated", "is_partial")


def _sums(columns: Any) -> list[Label[Any]]:
    """The cost of several rows, of a table or a subquery with the columns of a cost."""
    return [
        *(func.sum(getattr(columns, name)).label(name) for name in _COUNTS),
        *(func.bool_or(getattr(columns, name)).label(name) for name in _MARKS),
    ]


async def of_stages(
    connection: AsyncConnection, numbers: Sequence[str]
) -> Mapping[tuple[str, str], Cost]:
    """What the stages of requirements and fixes cost over all attempts, by number and name."""
    query = (
        select(RunRow.number, RunRow.stage, *_sums(CostRow))
        .join(CostRow, CostRow.run_id == RunRow.run_id)
        .where(RunRow.number.in_(numbers))
        .group_by(RunRow.number, RunRow.stage)
    )
    rows = (await connection.execute(query)).mappings()
    return {(row["number"], row["stage"]): cost_of_row(dict(row)) for row in rows}


def of_number(spent: Mapping[tuple[str, str], Cost], number: str) -> Cost:
    """The cost of all stages of one requirement or fix."""
    return sum((cost for (whose, _), cost in spent.items() if whose == number), NO_COST)


async def of_requirements(
    connection: AsyncConnection, numbers: Sequence[str]
) -> Mapping[str, Cost]:
    """What those requirements cost, their fixes included; a fix its own runs alone."""
    rows = (await connection.execute(SPENT, {"numbers": list(numbers)})).mappings()
    return {row["whose"]: cost_of_row(dict(row)) for row in rows}


def _spent() -> Select[Any]:
    these = any_(bindparam("numbers", type_=ARRAY(Text)))
    repaired = select(FixRow.root, FixRow.number).subquery()
    own = select(CostRow.number.label("whose"), *COST_COLUMNS).where(CostRow.number == these)
    of_fixes = (
        select(repaired.c.root.label("whose"), *COST_COLUMNS)
        .join(repaired, repaired.c.number == CostRow.number)
        .where(repaired.c.root == these)
    )
    both = union_all(own, of_fixes).subquery()
    return select(both.c.whose, *_sums(both.c)).group_by(both.c.whose)


SPENT = _spent()
"""What the requirements of the array `numbers` cost, as `of_requirements` says it."""


# --- what is listed -------------------------------------------------------------------------------

_KEYS: Mapping[By, Any] = {
    By.REQUIREMENT: func.coalesce(FixRow.root, CostRow.number),  # a fix costs what it repairs
    By.STAGE: RunRow.stage,
    By.RUN: CostRow.run_id,
    By.AGENT: CostRow.agent,
    By.ACCOUNT: CostRow.account,
    By.DAY: func.to_char(func.timezone("UTC", CostRow.at), "YYYY-MM-DD"),
}


async def listed(
    connection: AsyncConnection, by: By, number: str | None, since: datetime | None
) -> Sequence[Row]:
    """Runs that have cost something, summed: of one requirement with its fixes, or of all.

    Days are in their order, everything else by its dollars, the most first.
    """
    key = _KEYS[by].label("key")
    runs, seconds = func.count().label("runs"), func.sum(CostRow.seconds).label("seconds")
    query = (
        select(key, runs, seconds, *_sums(CostRow))
        .join(RunRow, RunRow.run_id == CostRow.run_id)
        .outerjoin(FixRow, FixRow.number == CostRow.number)
        .where(CostRow.usd.is_not(None) | CostRow.tokens.is_not(None) | CostRow.is_partial)
        .group_by(key)
    )
    if number is not None:
        query = query.where(_KEYS[By.REQUIREMENT] == number)
    if since is not None:
        query = query.where(CostRow.at >= since)
    dollars = func.sum(CostRow.usd).desc().nulls_last()
    query = query.order_by(key) if by is By.DAY else query.order_by(dollars, key)
    rows = (await connection.execute(query)).mappings()
    return [{**row, "cost": cost_of_row(dict(row))} for row in rows]


# --- what earlier requirements cost ---------------------------------------------------------------

_RECENT = 2_000
"""Stages whose costs are looked at, the latest ones."""


async def recorded(connection: AsyncConnection) -> tuple[tuple[Sample, ...], tuple[float, ...]]:
    """What stages of earlier requirements cost, and what the fixes of each requirement did.

    What is not known whole is left out; a requirement that needed no fix counts with zero.
    """
    is_fix = select(FixRow.number).where(FixRow.number == CostRow.number).exists()
    usd, latest = func.sum(CostRow.usd).label("usd"), func.max(CostRow.at)
    of_stages = (
        select(RunRow.stage, CostRow.agent, CostRow.kind, usd)
        .join(RunRow, RunRow.run_id == CostRow.run_id)
        .where(~is_fix, CostRow.kind != "")
        .group_by(CostRow.number, RunRow.stage, CostRow.agent, CostRow.kind)
        .having(func.bool_and(~CostRow.is_partial), func.count(CostRow.usd) == func.count())
        .order_by(latest.desc())
        .limit(_RECENT)
    )
    samples = [Sample(**row) for row in (await connection.execute(of_stages)).mappings()]
    fixes = (
        select(FixRow.root, func.sum(CostRow.usd).label("usd"))
        .join(CostRow, CostRow.number == FixRow.number)
        .group_by(FixRow.root)
        .subquery()
    )
    of_fixes = (
        select(func.coalesce(fixes.c.usd, 0.0))
        .select_from(RequirementRow)
        .outerjoin(fixes, fixes.c.root == RequirementRow.number)
        .where(
            RequirementRow.parent.is_(None),
            RequirementRow.state == str(RequirementState.DELIVERED),
            select(CostRow.run_id)
            .where(CostRow.number == RequirementRow.number, CostRow.kind != "")
            .exists(),
        )
        .order_by(RequirementRow.created_at.desc())
        .limit(_RECENT)
    )
    return tuple(samples), tuple((await connection.execute(of_fixes)).scalars())


log = logging.getLogger(__name__)

_REQUEST_TOKENS = 100_000
"""Tokens that one request is taken to read at most. Prices rise beyond 200,000, and the sum over a
run says nothing of its single requests."""


def estimate(usage: Mapping[str, Tokens]) -> float | None:
    """The dollars that those tokens cost, by model; None if a price is not known, or nothing is.

    The prices are those of the installed `genai-prices`; nothing is asked for on a network.
    """
    prices = [_price(model, tokens) for model, tokens in usage.items() if tokens.total]
    known = [price for price in prices if price is not None]
    return sum(known) if known and len(known) == len(prices) else None


def _price(model: str, tokens: Tokens) -> float | None:
    from genai_prices import Usage, calc_price  # a command that reads a cost needs no prices

    requests = max(1, -(-tokens.input // _REQUEST_TOKENS))
    one = Usage(
        input_tokens=tokens.input // requests,
        cache_read_tokens=min(tokens.cached, tokens.input) // requests,
        output_tokens=tokens.output // requests,
    )
    try:
        price = calc_price(one, model_ref=model) if model else None
    except LookupError:
        return None
    except ValueError as error:  # an unforeseen price must not keep a run from being recorded
        log.warning("The price of %s cannot be computed: %s", model, error)
        return None
    # No price at all is none that is known: a run that used its model is never free.
    return float(price.total_price) * requests if price and price.total_price else None
