"""Many requirements in figures: savings, plan error, failures and fixes, trend, the two modes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

from pipeline.durations import NOTHING, Known
from pipeline.forecast import percentile
from pipeline.model import NO_COST, Cost, FailureKind, Mode, RequirementState, StageState
from pipeline.report import plan_error
from pipeline.savings import Performance
from pipeline.verdicts import RED_VERDICTS

FEW = 5
"""Fewer requirements than this on a side compare nothing: one bad night decides."""

_WEEKS_FROM = timedelta(days=28)
"""A trend over a longer time is told by weeks, of a shorter one by days."""

T = TypeVar("T")
K = TypeVar("K")


@dataclass(frozen=True)
class Outcome:
    """One requirement: how it stands, what was planned, and what it took and cost.

    Fixes are counted with what they repair; `questions` are those to a human.
    """

    number: str
    title: str
    state: RequirementState
    mode: Mode
    pipeline: str
    created_at: datetime
    ended_at: datetime | None
    planned: timedelta
    planned_saved: float
    """Percent that the plan would save."""
    performance: Performance
    cost: Cost = NO_COST
    fixes: int = 0
    questions: int = 0

    @property
    def is_delivered(self) -> bool:
        """Whether it came to its end and its work to the target."""
        return self.state is RequirementState.DELIVERED

    @property
    def plan_error(self) -> float | None:
        """How much longer than planned it took, in percent; None unless it is delivered."""
        return plan_error(self.planned, self.performance.wall) if self.is_delivered else None


@dataclass(frozen=True)
class RunFact:
    """A run that has ended, or that runs; `kind` is that of the agent's program, if it is known."""

    agent: str
    kind: str
    state: StageState
    verdict: str
    is_of_fix: bool
    seconds: float
    cost: Cost

    @property
    def has_ended(self) -> bool:
        """Whether it came to an end, a good one or not."""
        return self.state.is_done or self.state.is_red

    @property
    def has_failed(self) -> bool:
        """Whether the run itself did: a tester or critic that says no has done its work."""
        return self.state.is_red and self.verdict not in RED_VERDICTS


@dataclass(frozen=True)
class FailureFact:
    """A failure that was reported, of which requirement."""

    number: str
    kind: FailureKind
    is_resolved: bool


@dataclass(frozen=True)
class Summary:
    """Some requirements together. Shares and errors are in percent, None where nothing tells.

    `saved_percent` is of the sequential time of all that has ended; the rest counts what was
    delivered alone.
    """

    requirements: int
    states: Mapping[RequirementState, int]
    sequential: timedelta
    parallel: timedelta
    planned_saved_percent: float | None
    plan_error_p50: float | None
    plan_error_p80: float | None
    wall_p50: timedelta | None
    fixes: int
    questions: int
    cost: Cost

    @property
    def saved(self) -> timedelta:
        """What parallel work saved."""
        return self.sequential - self.parallel

    @property
    def saved_percent(self) -> float | None:
        """In percent of the sequential time."""
        return _percent(self.saved, self.sequential)

    @property
    def ended(self) -> int:
        """How many have ended."""
        return sum(count for state, count in self.states.items() if state.is_final)

    @property
    def delivered(self) -> int:
        """How many were delivered."""
        return self.states.get(RequirementState.DELIVERED, 0)

    @property
    def delivered_percent(self) -> float | None:
        """Of those that have ended."""
        return _percent(self.delivered, self.ended)

    @property
    def cost_per_delivery(self) -> Cost | None:
        """What one that was delivered cost, with its share of those that were not, in dollars."""
        if self.cost.usd is None or not self.delivered:
            return None
        return replace(self.cost, tokens=None, usd=self.cost.usd / self.delivered)


@dataclass(frozen=True)
class AgentRates:
    """The runs of an agent that have ended, those of fixes apart, and what failed of them.

    `fixes` are runs of fixes that it owned.
    """

    agent: str
    kind: str
    runs: int
    failed: int
    fixes: int
    seconds: float
    cost: Cost

    @property
    def failure_percent(self) -> float | None:
        """Failed runs in percent of all."""
        return _percent(self.failed, self.runs)

    @property
    def fix_percent(self) -> float | None:
        """Runs of fixes in percent of its other runs."""
        return _percent(self.fixes, self.runs)


@dataclass(frozen=True)
class KindRate:
    """A kind of failure: how many were reported, in how many requirements, how many are open."""

    kind: FailureKind
    failures: int
    requirements: int
    unresolved: int


@dataclass(frozen=True)
class Period:
    """What ended in some days; `first` is the first of them, in UTC."""

    first: date
    days: int
    summary: Summary


@dataclass(frozen=True)
class Comparison:
    """The delivered requirements of one pipeline, by their mode."""

    pipeline: str
    parallel: Summary
    sequential: Summary

    @property
    def is_telling(self) -> bool:
        """Whether enough of both were delivered."""
        return min(self.parallel.delivered, self.sequential.delivered) >= FEW

    @property
    def faster_percent(self) -> float | None:
        """How much less time the median parallel one took than the median sequential one."""
        fast, slow = self.parallel.wall_p50, self.sequential.wall_p50
        return _percent(slow - fast, slow) if fast is not None and slow else None


@dataclass(frozen=True)
class Rates:
    """All that is told of many requirements, the latest first."""

    outcomes: tuple[Outcome, ...]
    summary: Summary
    agents: tuple[AgentRates, ...]
    kinds: tuple[KindRate, ...]
    trend: tuple[Period, ...]
    comparisons: tuple[Comparison, ...]
    durations: Known = NOTHING
    """Of the latest requirements, whenever they ended."""


def rates(
    outcomes: Sequence[Outcome], runs: Sequence[RunFact], failures: Sequence[FailureFact]
) -> Rates:
    """The figures of those requirements; empty input gives empty figures."""
    return Rates(
        tuple(sorted(outcomes, key=lambda each: each.created_at, reverse=True)),
        summary(outcomes),
        _agents(runs),
        _kinds(failures),
        trend(outcomes),
        compared(outcomes),
    )


def summary(outcomes: Iterable[Outcome]) -> Summary:
    """Those requirements together."""
    every = list(outcomes)
    ended = [each for each in every if each.state.is_final]
    delivered = [each for each in ended if each.is_delivered]
    errors = [each.plan_error for each in delivered if each.plan_error is not None]
    walls = [each.performance.wall for each in delivered]
    states = {state: sum(each.state is state for each in every) for state in RequirementState}
    return Summary(
        requirements=len(every),
        states={state: count for state, count in states.items() if count},
        sequential=_sum(each.performance.savings.sequential for each in ended),
        parallel=_sum(each.performance.savings.parallel for each in ended),
        planned_saved_percent=_planned_saved(delivered),
        plan_error_p50=percentile(errors, 0.5) if errors else None,
        plan_error_p80=percentile(errors, 0.8) if errors else None,
        wall_p50=_median(walls),
        fixes=sum(each.fixes for each in every),
        questions=sum(each.questions for each in every),
        cost=sum((each.cost for each in every), NO_COST),
    )


def _planned_saved(outcomes: Sequence[Outcome]) -> float | None:
    """Weighted by what each plan takes one stage after another."""
    whole = saved = 0.0
    for each in outcomes:
        share = each.planned_saved / 100
        sequential = each.planned.total_seconds() / (1 - share)
        whole, saved = whole + sequential, saved + sequential * share
    return _percent(saved, whole)


def trend(outcomes: Sequence[Outcome]) -> tuple[Period, ...]:
    """What ended, by weeks from Monday on, or by days, without those in which nothing did."""
    ends = [each.ended_at for each in outcomes if each.ended_at]
    if not ends:
        return ()
    days = 7 if max(ends) - min(ends) > _WEEKS_FROM else 1

    def first_of(each: Outcome) -> date:
        assert each.ended_at
        day = each.ended_at.astimezone(UTC).date()
        return day - timedelta(days=day.weekday() if days > 1 else 0)

    periods = _grouped([each for each in outcomes if each.ended_at], first_of)
    return tuple(Period(first, days, summary(periods[first])) for first in sorted(periods))


def compared(outcomes: Sequence[Outcome]) -> tuple[Comparison, ...]:
    """Parallel beside sequential, for each pipeline that something was delivered with."""
    delivered = _grouped([each for each in outcomes if each.is_delivered], lambda o: o.pipeline)
    return tuple(
        Comparison(
            pipeline,
            summary(each for each in delivered[pipeline] if each.mode is Mode.PARALLEL),
            summary(each for each in delivered[pipeline] if each.mode is Mode.SEQUENTIAL),
        )
        for pipeline in sorted(delivered)
    )


def _agents(runs: Sequence[RunFact]) -> tuple[AgentRates, ...]:
    """By agent and kind of program, who failed most of its runs first."""
    found = _grouped(
        [run for run in runs if run.has_ended],
        lambda run: (run.agent, run.kind),
    )
    lines = [_rates_of(agent, kind, mine) for (agent, kind), mine in found.items()]
    return tuple(sorted(lines, key=lambda line: (-(line.failure_percent or 0), line.agent)))


def _rates_of(agent: str, kind: str, runs: Sequence[RunFact]) -> AgentRates:
    own = [run for run in runs if not run.is_of_fix]
    return AgentRates(
        agent,
        kind,
        runs=len(own),
        failed=sum(run.has_failed for run in own),
        fixes=len(runs) - len(own),
        seconds=sum(run.seconds for run in runs),
        cost=sum((run.cost for run in runs), NO_COST),
    )


def _kinds(failures: Sequence[FailureFact]) -> tuple[KindRate, ...]:
    """The most frequent first."""
    lines = [
        KindRate(
            kind,
            len(each),
            len({failure.number for failure in each}),
            sum(not failure.is_resolved for failure in each),
        )
        for kind, each in _grouped(failures, lambda failure: failure.kind).items()
    ]
    return tuple(sorted(lines, key=lambda line: (-line.failures, line.kind)))


def _grouped(things: Iterable[T], key: Callable[[T], K]) -> dict[K, list[T]]:
    groups: dict[K, list[T]] = {}
    for thing in things:
        groups.setdefault(key(thing), []).append(thing)
    return groups


def _sum(times: Iterable[timedelta]) -> timedelta:
    return sum(times, timedelta())


def _median(times: Sequence[timedelta]) -> timedelta | None:
    if not times:
        return None
    return timedelta(seconds=percentile([each.total_seconds() for each in times], 0.5))


def _percent(part: float | timedelta, whole: float | timedelta) -> float | None:
    """One decimal; None of nothing."""
    if isinstance(part, timedelta) and isinstance(whole, timedelta):
        part, whole = part.total_seconds(), whole.total_seconds()
    if not whole:
        return None
    assert isinstance(part, int | float)
    assert isinstance(whole, int | float)
    return round(100 * part / whole, 1)
