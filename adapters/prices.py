"""What tokens cost by the published prices of their models, where a program tells no dollars."""

import logging
from collections.abc import Mapping

from pipeline.model import Tokens

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
