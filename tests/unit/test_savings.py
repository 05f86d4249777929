from datetime import UTC, datetime, timedelta, timezone
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import Interval
from pipeline.savings import savings

START = datetime(2026, 1, 1, tzinfo=UTC)


def minutes(start: float, end: float) -> Interval:
    return Interval(START + timedelta(minutes=start), START + timedelta(minutes=end))


def after_one_another(*durations: timedelta) -> list[Interval]:
    intervals, now = [], START
    for duration in durations:
        intervals.append(Interval(now, now + duration))
        now += duration
    return intervals


def test_the_acceptance_figures() -> None:
    # 45 + 30 + (60 ∥ 40) + (30 ∥ 45) + 90 + 15 + 30
    intervals = [
        minutes(0, 45),
        minutes(45, 75),
        minutes(75, 135),
        minutes(75, 115),
        minutes(135, 165),
        minutes(135, 180),
        minutes(180, 270),
        minutes(270, 285),
        minutes(285, 315),
    ]

    result = savings(intervals)

    assert result.sequential == timedelta(minutes=385)
    assert result.parallel == timedelta(minutes=315)
    assert result.saved == timedelta(minutes=70)
    assert result.percentage_saved == 18.2
    assert result.sequential_hours == pytest.approx(385 / 60)
    assert result.parallel_hours == 5.25
    assert result.saved_hours == pytest.approx(70 / 60)


def test_nothing_ran_saves_nothing() -> None:
    assert savings([]).saved == timedelta()
    assert savings([]).percentage_saved == 0.0
    assert savings([minutes(5, 5)]).percentage_saved == 0.0


def test_waiting_between_intervals_counts_in_neither() -> None:
    result = savings([minutes(0, 10), minutes(500, 510)])

    assert result.sequential == result.parallel == timedelta(minutes=20)


def test_an_interval_inside_another_is_saved_whole() -> None:
    result = savings([minutes(0, 100), minutes(10, 20), minutes(90, 110)])

    assert result.sequential == timedelta(minutes=130)
    assert result.parallel == timedelta(minutes=110)


@given(st.lists(st.integers(0, 10**9), max_size=20))
def test_intervals_one_after_another_save_exactly_nothing(microseconds: list[int]) -> None:
    result = savings(after_one_another(*(timedelta(microseconds=n) for n in microseconds)))

    assert result.saved == timedelta()
    assert result.percentage_saved == 0.0


@given(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 500)), max_size=20), st.randoms())
def test_the_union_is_never_longer_than_the_sum_and_order_is_nothing(
    pairs: list[tuple[int, int]], random: Random
) -> None:
    intervals = [minutes(start, start + length) for start, length in pairs]
    worked = {minute for start, length in pairs for minute in range(start, start + length)}

    result = savings(intervals)

    assert result.parallel == timedelta(minutes=len(worked))
    assert 0 <= result.percentage_saved < 100
    assert savings(random.sample(intervals, len(intervals))) == result


def test_times_of_different_zones_are_compared_as_instants() -> None:
    here = START.astimezone(timezone(timedelta(hours=2)))

    result = savings([Interval(START, here + timedelta(hours=1))])

    assert result.parallel == timedelta(hours=1)


def test_the_change_to_summer_time_is_no_work() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before = datetime(2026, 3, 29, 1, 30, tzinfo=berlin)
    after = datetime(2026, 3, 29, 3, 30, tzinfo=berlin)

    assert savings([Interval(before, after)]).sequential == timedelta(hours=1)


@pytest.mark.parametrize(
    ("interval", "reason"),
    [
        (minutes(2, 1), "ends before it starts"),
        (Interval(START.replace(tzinfo=None), START), "aware"),
        (Interval(START, START.replace(tzinfo=None)), "aware"),
    ],
)
def test_impossible_intervals_are_refused(interval: Interval, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        savings([minutes(0, 1), interval])
