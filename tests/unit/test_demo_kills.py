"""What the demo counts after its kills: a second start, a second run, a lost event would show."""

import pytest

from cli.demo_kills import survived

ONCE = (("Research", 1), ("Backend Implementation", 1))
EVENTS = ("a", "b", "c")


@pytest.mark.parametrize(
    ("runs", "told", "line"),
    [
        (ONCE, EVENTS, "1 start, 1 run, 0 stages repeated, 0 events lost"),
        ((*ONCE, ("Research", 1)), EVENTS, "2 starts, 2 runs, 1 stage repeated, 0 events lost"),
        ((("Research", 2),), EVENTS, "2 starts, 1 run, 1 stage repeated, 0 events lost"),
        (ONCE, ("c", "other"), "1 start, 1 run, 0 stages repeated, 2 events lost"),
        ((), EVENTS, "0 starts, 0 runs, 0 stages repeated, 0 events lost"),
    ],
)
def test_what_was_repeated_or_lost_is_counted(
    runs: tuple[tuple[str, int], ...], told: tuple[str, ...], line: str
) -> None:
    assert survived([("worker",)], runs, EVENTS, told).line == line
