"""What a requirement is likely to cost, from what earlier ones did.

The median and the 80th percentile of a sum are not the sums of medians and percentiles. So the
recorded costs of its stages are added up as distributions, which are taken to be independent.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from math import ceil

LEAST = 3
"""Fewer recorded costs than this tell nothing."""

_POINTS = 200
_SAMPLES = 50
"""Points that a distribution is kept in: 200 of a sum, 50 of a stage."""


class Source(StrEnum):
    """Where a stage's cost is known from, the nearest first."""

    STAGE = "runs of the stage"
    AGENT = "runs of the agent"
    KIND = "runs of its kind"
    FILE = "agents file"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Sample:
    """What a stage of an earlier requirement has cost, all its attempts together."""

    stage: str
    agent: str
    kind: str
    usd: float


@dataclass(frozen=True)
class Payer:
    """A stage that is to run, what its agent is, and what the agents file says that it costs."""

    stage: str
    agent: str
    kind: str
    expected: float | None


@dataclass(frozen=True)
class StageForecast:
    """What a stage is likely to cost; None where nothing is known."""

    stage: str
    agent: str
    p50: float | None
    p80: float | None
    source: Source
    samples: int


@dataclass(frozen=True)
class Forecast:
    """What all stages are likely to cost together, and the fixes of a requirement.

    `p50` and `p80` leave out stages of which nothing is known: then the cost is at least that.
    """

    stages: tuple[StageForecast, ...]
    fixes_p80: float | None
    p50: float
    p80: float

    @property
    def unknown(self) -> tuple[str, ...]:
        """The stages of which nothing is known."""
        return tuple(each.stage for each in self.stages if each.source is Source.UNKNOWN)

    def is_enough(self, budget: float) -> bool:
        """Whether four of five such requirements cost no more than that."""
        return self.p80 <= budget


def forecast(
    payers: Sequence[Payer], samples: Sequence[Sample], fixes: Sequence[float]
) -> Forecast:
    """The likely cost of those stages; `fixes` are what the fixes of earlier requirements cost."""
    known = [_known(payer, samples) for payer in payers]
    repairs = list(fixes) if len(fixes) >= LEAST else []
    whole = _sum([values for _, values in known] + [repairs])
    stages = tuple(
        StageForecast(
            payer.stage,
            payer.agent,
            percentile(values, 0.5) if values else None,
            percentile(values, 0.8) if values else None,
            source,
            len(values) if source is not Source.FILE else 0,
        )
        for payer, (source, values) in zip(payers, known, strict=True)
    )
    fixes_p80 = percentile(repairs, 0.8) if repairs else None
    return Forecast(stages, fixes_p80, percentile(whole, 0.5), percentile(whole, 0.8))


def percentile(values: Iterable[float], share: float) -> float:
    """The smallest of the values that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)]


def _known(payer: Payer, samples: Sequence[Sample]) -> tuple[Source, list[float]]:
    """What is known of a stage's cost: recorded costs of the same kind of agent count alone."""
    alike = [each for each in samples if payer.kind and each.kind == payer.kind]
    narrower: tuple[tuple[Source, Callable[[Sample], bool]], ...] = (
        (Source.STAGE, lambda each: (each.stage, each.agent) == (payer.stage, payer.agent)),
        (Source.AGENT, lambda each: each.agent == payer.agent),
        (Source.KIND, lambda each: True),
    )
    for source, belongs in narrower:
        found = [each.usd for each in alike if belongs(each)]
        if len(found) >= LEAST:
            return source, found
    if payer.expected is not None:
        return Source.FILE, [payer.expected]
    return Source.UNKNOWN, []


def _sum(parts: Sequence[Sequence[float]]) -> list[float]:
    """The distribution of the sum of independent parts; those without values count nothing."""
    whole = [0.0]
    for values in filter(None, parts):
        sums = (one + other for one, other in product(whole, _points(values, _SAMPLES)))
        whole = _points(sums, _POINTS)
    return whole


def _points(values: Iterable[float], most: int) -> list[float]:
    """So many points of a distribution, at equal shares."""
    ordered = sorted(values)
    if len(ordered) <= most:
        return ordered
    return [ordered[int((nth + 0.5) * len(ordered) / most)] for nth in range(most)]
