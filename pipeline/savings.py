"""What running in parallel saved, from the intervals that agents and builds really took."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pipeline.model import Interval

_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Savings:
    """Time one after another against time as it was run."""

    sequential: timedelta
    parallel: timedelta

    @property
    def saved(self) -> timedelta:
        """The difference, never negative."""
        return self.sequential - self.parallel

    @property
    def percentage_saved(self) -> float:
        """Saved time in percent of the sequential time, one decimal; 0 where nothing ran."""
        if not self.sequential:
            return 0.0
        return round(100 * (self.saved / self.sequential), 1)

    @property
    def sequential_hours(self) -> float:
        """The sequential time in hours, as the performance event states it."""
        return self.sequential / _HOUR

    @property
    def parallel_hours(self) -> float:
        """The parallel time in hours."""
        return self.parallel / _HOUR

    @property
    def saved_hours(self) -> float:
        """The saved time in hours."""
        return self.saved / _HOUR


@dataclass(frozen=True)
class Performance:
    """Measured times: `queue` between asking for agents and their starts, summed over runs.

    `hold` is how long some boundary was held or some agent suspended, `human` how long a question
    to a human was open.
    """

    savings: Savings
    wall: timedelta
    queue: timedelta
    hold: timedelta
    human: timedelta


def savings(intervals: Sequence[Interval]) -> Savings:
    """Sum of the intervals against the length of their union.

    Whole microseconds throughout, so intervals that do not overlap save exactly nothing.

    Raises: ValueError if a time is naive or an interval ends before it starts.
    Source: design, section 6, "Events".
    """
    spans = sorted(_utc_span(interval) for interval in intervals)
    sequential = sum((end - start for start, end in spans), timedelta())
    parallel = sum((end - start for start, end in _union(spans)), timedelta())
    return Savings(sequential, parallel)


def _utc_span(interval: Interval) -> tuple[datetime, datetime]:
    if interval.start.utcoffset() is None or interval.end.utcoffset() is None:
        raise ValueError("an interval needs aware times")
    # Within one time zone Python subtracts wall clocks, and a change to summer time would count.
    start, end = interval.start.astimezone(UTC), interval.end.astimezone(UTC)
    if end < start:
        raise ValueError(f"an interval ends before it starts: {start} to {end}")
    return start, end


def _union(spans: Sequence[tuple[datetime, datetime]]) -> Iterator[tuple[datetime, datetime]]:
    if not spans:
        return
    start, end = spans[0]
    for next_start, next_end in spans[1:]:
        if next_start > end:
            yield start, end
            start, end = next_start, next_end
        else:
            end = max(end, next_end)
    yield start, end
