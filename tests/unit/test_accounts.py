from datetime import UTC, datetime, timedelta

import pytest

from pipeline.accounts import PAUSES, AfterLimit, Limit, limit_of
from pipeline.endings import MEANINGS, Blame
from pipeline.model import Ending, FailureKind, ProgramReport

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def a_report(ending: Ending, detail: str = "Its own words") -> ProgramReport:
    return ProgramReport("claude-code", "work", ending, detail=detail, until=NOW)


@pytest.mark.parametrize("ending", Ending)
def test_only_what_is_the_accounts_matter_is_a_limit(ending: Ending) -> None:
    blame, kind = MEANINGS[ending].blame, MEANINGS[ending].kind
    limit = limit_of(a_report(ending), AfterLimit.RESUME)

    assert bool(limit) == (blame in (Blame.ACCOUNT_WAITS, Blame.ACCOUNT_ASKS))
    assert bool(limit) == (kind is FailureKind.LIMITED)
    if limit:
        assert limit.needs_human == (blame is Blame.ACCOUNT_ASKS)
        assert (limit.account, limit.words, limit.until) == ("work", "Its own words", NOW)


@pytest.mark.parametrize(
    ("ending", "asks"),
    [(Ending.USAGE_LIMIT, True), (Ending.OVERLOADED, False), (Ending.NO_CREDIT, True)],
)
def test_team_that_wants_to_be_asked_is_asked_after_usage_limits_alone(
    ending: Ending, asks: bool
) -> None:
    limit = limit_of(a_report(ending), AfterLimit.ASK)

    assert limit
    assert limit.needs_human == asks


def test_program_without_words_is_told_of_in_ours() -> None:
    limit = limit_of(a_report(Ending.OVERLOADED, ""), AfterLimit.RESUME)

    assert limit
    assert "cannot work now" in limit.words


def test_stated_reset_is_waited_for() -> None:
    reset = NOW + timedelta(days=6)

    assert Limit("work", "", reset).next_try(9, NOW) == reset


@pytest.mark.parametrize("until", [None, NOW, NOW - timedelta(days=1)])
def test_pauses_without_a_reset_to_come_double_up_to_the_longest(until: datetime | None) -> None:
    limit = Limit("work", "", until)
    pauses = [limit.next_try(nth, NOW) - NOW for nth in (0, 1, 2, 6, 10_000)]

    first, longest = PAUSES
    assert pauses == [first, 2 * first, 4 * first, longest, longest]
