"""From samples to figures: medians over the rounds, and ratios of what ran in the same round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from bench.measuring import WORKER, Batch, Sample
from bench.shape import IDEAL_SECONDS

ALONE, CROWD, RUSH = "alone", "crowd", "rush"
"""Names of the batches: one requirement, many at once, many of no work."""

ASYNCIO, BARE, OURS = "asyncio", "bare", "ours"


@dataclass(frozen=True)
class Metric:
    """What is read off a sample; `digits` are those worth printing."""

    title: str
    batch: str
    value: Callable[[Sample], float]
    digits: int
    key: str
    is_compared: bool = True
    """Whether bare Temporal does it at all: a ratio to next to nothing says nothing."""


@dataclass(frozen=True)
class Aim:
    """What a figure of ours should be: at most, or at least, `bound`."""

    text: str
    bound: float
    is_ratio: bool
    is_upper: bool = True


@dataclass(frozen=True)
class Figure:
    """A metric's medians by contender, the median ratio ours ÷ bare, and the aim."""

    key: str
    title: str
    digits: int
    medians: Mapping[str, float]
    ratio: float | None
    aim: str
    is_met: bool | None


AIMS: Mapping[str, Aim] = {
    "makespan_alone": Aim("≤ 1.25 × bare", 1.25, is_ratio=True),
    "throughput": Aim("≥ 0.5 × bare", 0.5, is_ratio=True, is_upper=False),
    "history_events": Aim("≤ 110", 110, is_ratio=False),
}


def batches(crowd: int, rush: int) -> tuple[Batch, ...]:
    """What every contender does in every round."""
    return (
        Batch(ALONE, 1, is_working=True),
        Batch(CROWD, crowd, is_working=True),
        Batch(RUSH, rush, is_working=False),
    )


def metrics(crowd: int, rush: int) -> tuple[Metric, ...]:
    """Every figure of the table, in its order."""
    at_once = f"{rush} no-op requirements at once"
    return (
        Metric("makespan ÷ ideal, 1 requirement", ALONE, _stretch, 3, "makespan_alone"),
        Metric(f"makespan ÷ ideal, {crowd} at once", CROWD, _stretch, 3, "makespan_crowd"),
        Metric(f"requirements/s, {at_once}", RUSH, _throughput, 1, "throughput"),
        Metric("history events per requirement", ALONE, _events, 0, "history_events"),
        Metric("history bytes per requirement", ALONE, _bytes, 0, "history_bytes"),
        Metric("CPU per requirement (ms)", RUSH, _cpu(), 1, "cpu_ms"),
        Metric("  of the worker", RUSH, _cpu(WORKER), 1, "cpu_worker_ms"),
        Metric("  of Temporal", RUSH, _cpu("temporal"), 1, "cpu_temporal_ms"),
        Metric("  of PostgreSQL", RUSH, _cpu("postgres"), 1, "cpu_postgres_ms", is_compared=False),
        Metric("  of NATS", RUSH, _cpu("nats"), 1, "cpu_nats_ms", is_compared=False),
        Metric("worker memory afterwards (MB)", RUSH, _memory, 0, "memory_mb"),
    )


def figures(samples: Sequence[Sample], asked: Sequence[Metric]) -> tuple[Figure, ...]:
    """The figure of each metric."""
    return tuple(_figure(metric, samples) for metric in asked)


def _figure(metric: Metric, samples: Sequence[Sample]) -> Figure:
    values = {
        name: {s.round: metric.value(s) for s in samples if _is_of(s, name, metric)}
        for name in (ASYNCIO, BARE, OURS)
    }
    medians = {name: median(each.values()) for name, each in values.items() if any(each.values())}
    pairs = [(ours, values[BARE].get(round_, 0.0)) for round_, ours in values[OURS].items()]
    ratios = [ours / bare for ours, bare in pairs if bare and metric.is_compared]
    ratio = median(ratios) if ratios else None
    aim = AIMS.get(metric.key)
    return Figure(
        metric.key,
        metric.title,
        metric.digits,
        medians,
        ratio,
        aim.text if aim else "",
        _is_met(aim, ratio, medians.get(OURS)) if aim else None,
    )


def _is_of(sample: Sample, contender: str, metric: Metric) -> bool:
    return sample.contender == contender and sample.batch == metric.batch


def _is_met(aim: Aim, ratio: float | None, ours: float | None) -> bool | None:
    value = ratio if aim.is_ratio else ours
    if value is None:
        return None
    return value <= aim.bound if aim.is_upper else value >= aim.bound


def _stretch(sample: Sample) -> float:
    return sample.seconds / IDEAL_SECONDS


def _throughput(sample: Sample) -> float:
    return sample.requirements / sample.seconds


def _events(sample: Sample) -> float:
    return sample.history_events


def _bytes(sample: Sample) -> float:
    return sample.history_bytes


def _memory(sample: Sample) -> float:
    return sample.resident_bytes / 1e6


def _cpu(process: str | None = None) -> Callable[[Sample], float]:
    """Milliseconds per requirement of one process, or of all."""

    def milliseconds(sample: Sample) -> float:
        used = sample.cpu_seconds
        seconds = used.get(process, 0.0) if process else sum(used.values())
        return 1_000 * seconds / sample.requirements

    return milliseconds
