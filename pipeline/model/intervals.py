"""Stretches of time, and what is left of one between its interruptions."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Interval:
    """A stretch of work from `start` to `end`, both aware."""

    start: datetime
    end: datetime


def between(start: datetime, end: datetime, changes: Sequence[datetime]) -> list[Interval]:
    """What of that stretch was work, where each change stops it or lets it go on, in turn.

    A clock that was set back meanwhile makes stretches of no length, not of a negative one.
    """
    end = max(start, end)
    edges = [start, *(min(max(start, change), end) for change in changes), end]
    pairs = zip(edges[::2], edges[1::2], strict=False)  # the last wait has no edge behind it
    return [Interval(first, max(first, last)) for first, last in pairs]
