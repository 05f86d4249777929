"""When a budget warns, what room it leaves, and what a run may cost."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline.budgets import (
    NO_BUDGET,
    Budget,
    RunBudget,
    beginning_of_day,
    end_of_day,
    highest,
    is_spent,
    scope_of_day,
)

TEN = Budget("REQ-1", 10.0)


@pytest.mark.parametrize(
    ("spent", "reserved", "used_up", "has_room"),
    [
        (0.0, 0.0, False, True),
        (9.99, 0.0, False, True),
        (9.996, 0.0, True, False),  # less than half a cent is no room
        (10.0, 0.0, True, False),
        (12.0, 0.0, True, False),
        (9.0, 1.0, False, False),
        (9.0, 0.5, False, True),
        (0.1 + 0.2, 9.7, False, False),  # sums of floats are not exact
    ],
)
def test_nothing_starts_without_room(
    spent: float, reserved: float, used_up: bool, has_room: bool
) -> None:
    budget = replace(TEN, spent=spent, reserved=reserved)

    assert (budget.is_spent, budget.has_room) == (used_up, has_room)


def test_without_a_limit_there_is_always_room() -> None:
    budget = Budget("REQ-1", None, warn=1.0, spent=1e6)

    assert (budget.is_spent, budget.has_room, budget.must_warn) == (False, True, True)


@pytest.mark.parametrize(
    ("budget", "warns"),
    [
        (replace(TEN, spent=7.99), False),
        (replace(TEN, spent=8.0), True),  # 80 % where nothing else is said
        (replace(TEN, spent=8.0, is_warned=True), False),
        (replace(TEN, spent=8.0, warn=9.0), False),
        (replace(TEN, spent=2.0, warn=1.5), True),
        (Budget("REQ-1", None, spent=100.0), False),
    ],
)
def test_a_budget_warns_once(budget: Budget, warns: bool) -> None:
    assert budget.must_warn is warns


@pytest.mark.parametrize(
    ("run", "budgets", "most"),
    [
        (NO_BUDGET, (), None),
        (NO_BUDGET, (TEN,), None),
        (RunBudget(most=3.0), (), 3.0),
        (RunBudget(most=3.0, expected=1.0), (TEN,), 3.0),
        (RunBudget(expected=1.0), (TEN,), 1.0),
        (RunBudget(most=3.0), (replace(TEN, spent=6.0, reserved=2.0),), 2.0),
        (RunBudget(most=3.0), (replace(TEN, spent=6.0), Budget("day 2026-01-05", 1.5)), 1.5),
        (RunBudget(most=3.0), (Budget("REQ-1", None, warn=1.0),), 3.0),
    ],
)
def test_a_run_may_cost_no_more_than_there_is_room_for(
    run: RunBudget, budgets: tuple[Budget, ...], most: float | None
) -> None:
    assert highest(run, budgets) == most


def test_days_are_those_of_utc() -> None:
    late = datetime(2026, 1, 5, 23, 30, tzinfo=timezone(timedelta(hours=-5)))

    assert scope_of_day(late) == "day 2026-01-06"
    assert beginning_of_day(late) == datetime(2026, 1, 6, tzinfo=UTC)
    assert end_of_day(late) == datetime(2026, 1, 7, tzinfo=UTC)


def test_what_holds_says_how_it_is_raised() -> None:
    own = is_spent(replace(TEN, spent=10.25), "REQ-1-FIX-1")
    of_day = is_spent(Budget("day 2026-01-05", 50.0, spent=50.0), "REQ-2")

    assert own.startswith("The budget of REQ-1 is spent: $10.25 of $10.00.")
    assert own.endswith("python starter.py decide REQ-1 raise-budget --usd AMOUNT")
    assert "budget of 2026-01-05 is spent: $50.00 of $50.00" in of_day
    assert of_day.endswith("python starter.py decide REQ-2 raise-budget --day --usd AMOUNT")
