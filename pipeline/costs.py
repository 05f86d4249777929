"""What runs cost, in words and figures: the one way in which money is written."""

from enum import StrEnum

from pipeline.model import Cost


class By(StrEnum):
    """What costs are summed by; days are those of UTC."""

    REQUIREMENT = "requirement"
    STAGE = "stage"
    RUN = "run"
    AGENT = "agent"
    ACCOUNT = "account"
    DAY = "day"


ESTIMATED = "≈"
"""Stands before dollars that were computed from tokens."""


def dollars(usd: float) -> str:
    """An amount of money; a small one keeps two digits that say something."""
    if 0 < usd < 0.0001:
        return "<$0.0001"
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}"


def amount(cost: Cost) -> str:
    """The dollars of a cost, marked where they are estimated, or not all; empty for nothing told.

    `≈$0.0214`, `$1.20 + unknown`, `unknown`.
    """
    if not cost.is_known:
        return ""
    if cost.usd is None:
        return "unknown" if cost.is_partial else ""
    known = f"{ESTIMATED if cost.is_estimated else ''}{dollars(cost.usd)}"
    return f"{known} + unknown" if cost.is_partial else known


def counted(tokens: float | None) -> str:
    """Tokens with their thousands apart; empty where they are not known."""
    return "" if tokens is None else f"{tokens:,.0f}"


def told(cost: Cost) -> str:
    """Tokens and dollars: `2,100 tokens (1,800 in, 200 of them cached, 300 out), $1.75`."""
    tokens = cost.tokens
    if tokens is None:
        return amount(cost)
    parts = (
        f"{counted(tokens.input)} in, {counted(tokens.cached)} of them cached, "
        f"{counted(tokens.output)} out"
    )
    money = amount(cost) or "unknown"
    return f"{counted(tokens.total)} tokens ({parts}), {money}"
