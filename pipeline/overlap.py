"""Whether stages that could run at the same time did, and what kept those apart that did not."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import combinations

from pipeline.graph import ancestors
from pipeline.history import History, RunTimes, WaitKind
from pipeline.model import Interval, Mode, Pipeline
from pipeline.time_spent import Needs, ready_at

NEGLIGIBLE = timedelta(seconds=5)
"""What two stages could overlap for no longer tells nothing: a clone and a start may take as long.
"""


class Relation(StrEnum):
    """How two stages of a plan ran."""

    OVERLAPPED = "overlapped"
    APART = "apart"
    """They should have overlapped, and did not."""
    ORDERED = "ordered"
    """One needs the other."""
    AFTER = "after"
    """One could begin only when the other had ended, since something else came before it."""
    TOO_SHORT = "too short"
    """They could have overlapped for no longer than a start takes: that tells nothing."""
    SKIPPED = "skipped"
    """One was not needed."""
    NOT_RUN = "not run"
    """One of them has not started."""


class Cause(StrEnum):
    """What kept a stage from its start."""

    SEQUENTIAL = "sequential"
    """The requirement ran one stage after another."""
    HELD = "held"
    QUEUED = "queued"
    """No slot was free."""
    STARTING = "starting"
    """Its clone was made and prepared."""


@dataclass(frozen=True)
class Delay:
    """A stage that could have begun and did not, for how long, and why; `reason` is a hold's."""

    stage: str
    length: timedelta
    cause: Cause
    reason: str = ""


@dataclass(frozen=True)
class Pair:
    """Two stages: for how long they ran at once, and could have, had each begun when it could."""

    first: str
    second: str
    relation: Relation
    overlap: timedelta = timedelta()
    possible: timedelta = timedelta()
    delay: Delay | None = None


@dataclass(frozen=True)
class Overlaps:
    """Every pair of stages, in the order of the plan."""

    stages: tuple[str, ...]
    pairs: tuple[Pair, ...]

    def of(self, relation: Relation) -> tuple[Pair, ...]:
        """The pairs that ran like that."""
        return tuple(pair for pair in self.pairs if pair.relation is relation)

    @property
    def may_overlap(self) -> bool:
        """Whether any two stages of the plan are independent, and needed."""
        related = (Relation.ORDERED, Relation.SKIPPED)
        return any(pair.relation not in related for pair in self.pairs)

    @property
    def is_proved(self) -> bool:
        """Whether nothing ran apart that should not, and something was seen.

        Where no two stages can overlap, nothing has to be seen.
        """
        is_seen = bool(self.of(Relation.OVERLAPPED) or self.of(Relation.AFTER))
        return not self.of(Relation.APART) and (is_seen or not self.may_overlap)


def overlaps(history: History, plan: Pipeline, mode: Mode, skipped: Sequence[str] = ()) -> Overlaps:
    """The pairs of the plan's stages; `skipped` are those that were not needed."""
    needs = needs_of(plan)
    names = tuple(stage.name for stage in plan.stages)
    pairs = (_pair(history, needs, mode, skipped, pair) for pair in combinations(names, 2))
    return Overlaps(names, tuple(pairs))


def needs_of(plan: Pipeline) -> Needs:
    """For each stage all that must be done before it."""
    return {stage.name: frozenset(ancestors(plan, stage.name)) for stage in plan.stages}


def _pair(
    history: History, needs: Needs, mode: Mode, skipped: Sequence[str], names: tuple[str, str]
) -> Pair:
    first, second = names
    if first in needs[second] or second in needs[first]:
        return Pair(first, second, Relation.ORDERED)
    if first in skipped or second in skipped:
        return Pair(first, second, Relation.SKIPPED)
    runs = [[run for run in _started(history) if run.stage == name] for name in names]
    if not all(runs):
        return Pair(first, second, Relation.NOT_RUN)
    overlap = _overlap(history, *runs)
    one, other = runs[0][0], runs[1][0]
    possible = _common(_ideal(history, one, needs), _ideal(history, other, needs))
    if overlap:
        return Pair(first, second, Relation.OVERLAPPED, overlap, max(overlap, possible))
    if not possible:
        return Pair(first, second, Relation.AFTER)
    if possible <= NEGLIGIBLE and mode is Mode.PARALLEL:
        return Pair(first, second, Relation.TOO_SHORT, possible=possible)
    later = max(one, other, key=lambda run: history.work(run)[0].start)
    delay = _delay(history, later, needs, mode)
    return Pair(first, second, Relation.APART, possible=possible, delay=delay)


def _started(history: History) -> Iterator[RunTimes]:
    """The requirement's own runs whose agents started, in that order."""
    own = (run for run in history.runs if not history.is_of_fix(run) and history.work(run))
    return iter(sorted(own, key=lambda run: history.work(run)[0].start))


def _overlap(history: History, first: Sequence[RunTimes], second: Sequence[RunTimes]) -> timedelta:
    """For how long their agents worked at once, over all attempts."""
    return sum(
        (
            _common(one, other)
            for run in first
            for one in history.work(run)
            for beside in second
            for other in history.work(beside)
        ),
        timedelta(),
    )


def _ideal(history: History, run: RunTimes, needs: Needs) -> Interval:
    """When the run would have worked, had it begun as soon as it could."""
    ready = ready_at(history, run, needs) or run.opened_at
    took = sum((each.end - each.start for each in history.work(run)), timedelta())
    return Interval(ready, ready + took)


def _common(one: Interval, other: Interval) -> timedelta:
    return max(timedelta(), min(one.end, other.end) - max(one.start, other.start))


def _delay(history: History, run: RunTimes, needs: Needs, mode: Mode) -> Delay:
    """What most likely kept the run from its start: a hold that was written down goes first."""
    ready = ready_at(history, run, needs) or run.opened_at
    start = history.work(run)[0].start
    length = start - ready
    held = [
        wait
        for wait in history.waits
        if wait.boundary == run.stage
        and wait.kind in (WaitKind.HOLD, WaitKind.LIMIT)
        and _common(Interval(ready, start), Interval(wait.start, wait.end or history.end))
    ]
    if mode is Mode.SEQUENTIAL:
        return Delay(run.stage, length, Cause.SEQUENTIAL)
    if held:
        return Delay(run.stage, length, Cause.HELD, held[0].reason)
    is_queued = run.opened_at - ready >= start - run.opened_at
    return Delay(run.stage, length, Cause.QUEUED if is_queued else Cause.STARTING)
