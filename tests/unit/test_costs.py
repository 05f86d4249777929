"""How costs are summed and written, and what tokens cost."""

import pytest

from adapters.agent_programs.codex import model_of
from adapters.sdlc.costs import estimate
from pipeline.costs import amount, dollars, told
from pipeline.model import NO_COST, Cost, Tokens

TOKENS = Tokens(1800, 300, 200)


@pytest.mark.parametrize(
    ("usd", "written"),
    [
        (0, "$0.00"),
        (0.00001, "<$0.0001"),
        (0.0214, "$0.0214"),
        (1.005, "$1.00"),
        (1234.5, "$1,234.50"),
    ],
)
def test_dollars_are_written_so_that_small_amounts_say_something(usd: float, written: str) -> None:
    assert dollars(usd) == written


@pytest.mark.parametrize(
    ("cost", "written"),
    [
        (NO_COST, ""),
        (Cost(TOKENS, 1.75), "$1.75"),
        (Cost(None, 0.0), "$0.00"),
        (Cost(TOKENS, 1.75, is_estimated=True), "≈$1.75"),
        (Cost(TOKENS, 1.75, is_partial=True), "$1.75 + unknown"),
        (Cost(TOKENS, None, is_partial=True), "unknown"),
    ],
)
def test_an_amount_says_what_is_estimated_or_unknown(cost: Cost, written: str) -> None:
    assert amount(cost) == written


def test_a_cost_names_its_tokens() -> None:
    assert told(Cost(TOKENS, 2.0)) == (
        "2,100 tokens (1,800 in, 200 of them cached, 300 out), $2.00"
    )


@pytest.mark.parametrize(
    ("first", "second", "whole"),
    [
        (NO_COST, NO_COST, NO_COST),
        (NO_COST, Cost(TOKENS, 1.0), Cost(TOKENS, 1.0)),
        (Cost(TOKENS, 1.0), Cost(TOKENS, 0.5), Cost(Tokens(3600, 600, 400), 1.5)),
        (
            Cost(TOKENS, None, is_partial=True),
            Cost(None, 0.5, is_estimated=True),
            Cost(TOKENS, 0.5, is_estimated=True, is_partial=True),
        ),
    ],
)
def test_costs_add_up_and_keep_their_marks(first: Cost, second: Cost, whole: Cost) -> None:
    assert first + second == second + first == whole


@pytest.mark.parametrize(
    ("usage", "usd"),
    [
        ({"gpt-5-codex": Tokens(1000, 50, 200)}, 0.001525),
        # A long run of many requests is no single request beyond 200,000 tokens, which costs more.
        ({"gemini-2.5-pro": Tokens(1_000_000, 10_000)}, 1.35),
        ({"claude-opus-4-8[1m]": Tokens(1000, 50, 200)}, 0.00535),
        ({"gpt-5-codex": Tokens(1000, 50, 200), "gemini-2.5-flash": Tokens(1000, 50)}, 0.00195),
        ({"gpt-5-codex": Tokens(1000), "a-model-of-ours": Tokens(1)}, None),
        ({"gpt-5-codex": Tokens(1000), "a-model-of-ours": Tokens()}, 0.00125),
        ({"": Tokens(1000)}, None),
        ({}, None),
    ],
)
def test_an_estimate_is_of_all_models_or_none(usage: dict[str, Tokens], usd: float | None) -> None:
    found = estimate(usage)

    assert found == (None if usd is None else pytest.approx(usd))


@pytest.mark.parametrize(
    ("arguments", "model"),
    [
        (["-m", "gpt-5"], "gpt-5"),
        (["--model", "gpt-5"], "gpt-5"),
        (["--model=gpt-5"], "gpt-5"),
        (["-c", 'model="gpt-5"'], "gpt-5"),
        (["-m", "gpt-5", "-m", "o3"], "o3"),
        (["-c", 'model_provider="ours"'], ""),
        ([], ""),
    ],
)
def test_the_model_of_codex_is_that_of_its_command_line(arguments: list[str], model: str) -> None:
    assert model_of(["codex", "exec", *arguments, "-"]) == model
