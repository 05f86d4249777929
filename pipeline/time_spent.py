"""Where a requirement's time went: each moment counts once, so that the parts add up."""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from pipeline.history import BuildTimes, History, RunTimes, WaitKind
from pipeline.model import Interval


class Part(StrEnum):
    """What a moment was spent on; of several at once, the first in this order counts."""

    AGENTS = "agents"
    BUILDS = "builds"
    FIXES = "fixes"
    """Agents of fixes."""
    PREPARING = "preparing"
    """What the clones of agents need is installed."""
    MERGES = "merges"
    """Work is taken over, merged and recorded, or delivered."""
    HUMANS = "humans"
    """A question is open."""
    LIMITS = "limits"
    """Accounts and budgets."""
    HOLDS = "holds"
    """P0s, blockers, dependencies, the turn to deliver, suspended agents."""
    QUEUE = "queue"
    """A stage could run and waits for a slot, for its clone, or for its agent's start."""
    REST = "rest"
    """None of these: the orchestrator's own steps."""


_WAITS = {
    WaitKind.HUMAN: Part.HUMANS,
    WaitKind.LIMIT: Part.LIMITS,
    WaitKind.HOLD: Part.HOLDS,
    WaitKind.SLOT: Part.QUEUE,
}


@dataclass(frozen=True)
class Stretch:
    """Time that counts for one part."""

    part: Part
    start: datetime
    end: datetime

    @property
    def length(self) -> timedelta:
        """How long it was."""
        return self.end - self.start


Needs = Mapping[str, Collection[str]]
"""For each stage of the plan all that must be done before it."""


def stretches(history: History, needs: Needs) -> tuple[Stretch, ...]:
    """The time from the opening to the end, without gaps, in order; empty before the opening."""
    if history.opened_at is None or history.end <= history.opened_at:
        return ()
    begin, end = history.opened_at, history.end
    changes: list[tuple[datetime, Part, int]] = [(begin, Part.REST, 0), (end, Part.REST, 0)]
    for part, interval in _spent(history, needs):
        start, stop = max(begin, interval.start), min(end, interval.end)
        if start < stop:
            changes += ((start, part, 1), (stop, part, -1))
    changes.sort(key=lambda change: change[0])
    under_way = dict.fromkeys(Part, 0)
    found: list[Stretch] = []
    for (at, part, step), (until, *_) in pairwise(changes):
        under_way[part] += step
        if at < until:
            spent_on = next((each for each in Part if under_way[each]), Part.REST)
            if found and found[-1].part is spent_on:
                at = found.pop().start
            found.append(Stretch(spent_on, at, until))
    return tuple(found)


def add_up(
    parts: Sequence[Stretch], start: datetime | None = None, end: datetime | None = None
) -> Mapping[Part, timedelta]:
    """What each part took, of all or between two moments; every part is there."""
    sums = dict.fromkeys(Part, timedelta())
    for each in parts:
        first = max(each.start, start) if start else each.start
        last = min(each.end, end) if end else each.end
        sums[each.part] += max(timedelta(), last - first)
    return sums


def work_of(history: History) -> Mapping[Part, timedelta]:
    """What agents, builds and agents of fixes worked, each on its own, added up."""
    sums = dict.fromkeys((Part.AGENTS, Part.BUILDS, Part.FIXES), timedelta())
    for part, interval in _work(history):
        sums[part] += interval.end - interval.start
    return sums


def _spent(history: History, needs: Needs) -> Iterator[tuple[Part, Interval]]:
    yield from _work(history)
    for run in history.runs:
        yield from _around(history, run, needs)
    for wait in history.waits:
        yield _WAITS[wait.kind], _interval(wait.start, wait.end or history.end)
    for turn in history.delivering:
        yield Part.MERGES, turn


def _work(history: History) -> Iterator[tuple[Part, Interval]]:
    for run in history.runs:
        part = Part.FIXES if history.is_of_fix(run) else Part.AGENTS
        yield from ((part, interval) for interval in history.work(run))
    for build in history.builds:
        yield Part.BUILDS, _interval(build.started_at, build.ended_at)


def _around(history: History, run: RunTimes, needs: Needs) -> Iterator[tuple[Part, Interval]]:
    """What comes before and after the work of a run's agent, and while it was suspended."""
    started = run.started_at or run.closed_at or history.end
    ready = ready_at(history, run, needs)
    yield Part.QUEUE, _interval(ready or run.opened_at, started)
    if run.prepare_started_at:
        prepared = run.prepare_ended_at or run.closed_at or history.end
        yield Part.PREPARING, _interval(run.prepare_started_at, prepared)
    if run.ended_at:
        yield Part.MERGES, _interval(run.ended_at, run.closed_at or history.end)
    if span := history.span(run):
        yield Part.HOLDS, span  # the agent's work within it comes first


def ready_at(history: History, run: RunTimes, needs: Needs) -> datetime | None:
    """When a stage's run could have begun: all before it was merged, built, repaired, answered.

    None of the run of a fix, and of a stage that the plan does not know.
    """
    if history.is_of_fix(run) or run.stage not in needs or history.opened_at is None:
        return None
    moments = (history.opened_at, *_ends_before(history, run, needs[run.stage]))
    return max((each for each in moments if each <= run.opened_at), default=run.opened_at)


def _ends_before(history: History, run: RunTimes, before: Collection[str]) -> Iterator[datetime]:
    """Ends of all that a run of the stage may have waited for; some may be later than its start."""
    for other in history.runs:
        if other.closed_at and _is_awaited(history, run, other, before):
            yield other.closed_at
    yield from (build.ended_at for build in history.builds if build.stage in before)
    for wait in history.waits:
        if wait.kind is WaitKind.HUMAN and wait.end:
            yield wait.end


def _is_awaited(history: History, run: RunTimes, other: RunTimes, before: Collection[str]) -> bool:
    """Whether a run may have waited for the other one: what repeats may for whatever was red."""
    return run.attempt > 1 or other.stage in before or history.is_of_fix(other)


# --- the critical path ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Link:
    """One piece of work that the end had to wait for, and what was waited for before it.

    `agent` is empty for a build, and for the end itself, which has no length.
    """

    name: str
    agent: str
    start: datetime
    end: datetime
    waited: Mapping[Part, timedelta]

    @property
    def length(self) -> timedelta:
        """How long it took."""
        return self.end - self.start

    @property
    def delay(self) -> timedelta:
        """How long nothing that it needed was under way."""
        return sum(self.waited.values(), timedelta())


END = "end"
"""The last link: what came after the last piece of work."""

_Item = tuple[Interval, RunTimes | BuildTimes]


def critical_path(history: History, needs: Needs, parts: Sequence[Stretch]) -> tuple[Link, ...]:
    """The chain of work that the end had to wait for, in order; lengths and delays add up.

    Backwards from the end: of what a piece of work needed, that which ended last before it.
    """
    if history.opened_at is None or history.end < history.opened_at:
        return ()
    items = sorted(_items(history, history.opened_at), key=lambda item: item[0].end)
    ends = [interval.end for interval, _ in items]
    links: list[Link] = []
    name, agent, work = END, "", None
    at = stop = history.end
    left = len(items)
    while True:
        left = min(left, bisect_right(ends, at))
        while left and not _needed(history, work, items[left - 1][1], needs):
            left -= 1
        begin = items[left - 1][0].end if left else history.opened_at
        waited = {part: took for part, took in add_up(parts, begin, at).items() if took}
        links.append(Link(name, agent, at, stop, waited))
        if not left:
            return tuple(reversed(links))
        left -= 1
        interval, work = items[left]
        name, agent = _name(history, work)
        at, stop = interval.start, interval.end


def _items(history: History, begin: datetime) -> Iterator[_Item]:
    """All work between the opening and the end."""
    for run in history.runs:
        if span := history.span(run):
            yield _clipped(span.start, span.end, begin, history.end), run
    for build in history.builds:
        yield _clipped(build.started_at, build.ended_at, begin, history.end), build


def _clipped(start: datetime, end: datetime, first: datetime, last: datetime) -> Interval:
    start = min(max(start, first), last)
    return _interval(start, min(end, last))


def _needed(
    history: History,
    work: RunTimes | BuildTimes | None,
    each: RunTimes | BuildTimes,
    needs: Needs,
) -> bool:
    """Whether the work may have waited for that; a build, a fix and the end for anything."""
    if not isinstance(work, RunTimes) or history.is_of_fix(work):
        return True
    before = needs.get(work.stage, ())
    if isinstance(each, BuildTimes):
        return each.stage in before or work.attempt > 1
    return _is_awaited(history, work, each, before)


def _name(history: History, work: RunTimes | BuildTimes) -> tuple[str, str]:
    if isinstance(work, BuildTimes):
        return work.gate, ""
    return (work.number if history.is_of_fix(work) else work.stage), work.agent


def _interval(start: datetime, end: datetime) -> Interval:
    """A clock that was set back meanwhile makes stretches of no length."""
    return Interval(start, max(start, end))
