import json

import pytest

from bench.boundaries import Boundaries, Stamp, boundaries
from bench.figures import ASYNCIO, BARE, OURS, Figure, figures, metrics
from bench.measuring import WORKER, Sample
from bench.report import Result
from bench.shape import IDEAL_SECONDS, MINUTE_SECONDS, STEPS
from pipeline.model import Mode
from pipeline.schedule import plan_schedule
from tests.plans import shipped

METRICS = metrics(50, 200)


def a_sample(round_: int, contender: str, batch: str, seconds: float, events: int = 0) -> Sample:
    cpu = {WORKER: 0.1, "temporal": 0.2, "postgres": 0.05, "nats": 0.05}
    return Sample(round_, contender, batch, 10, seconds, cpu, 150_000_000, events, 8_000)


def figure(key: str, *samples: Sample) -> Figure:
    return next(each for each in figures(samples, METRICS) if each.key == key)


def test_the_typed_pipeline_is_the_shipped_one_without_specialists() -> None:
    plan = shipped("standard")
    wanted = [stage for stage in plan.stages if not stage.flag]
    typed = [step for group in STEPS for step in group if not step.name.startswith("Build ")]

    assert [(step.name, step.minutes) for step in typed] == [(s.name, s.minutes) for s in wanted]
    builds = [step.name for group in STEPS for step in group if step.name.startswith("Build ")]
    assert builds == [f"Build {name}" for name in plan.builds]
    schedule = plan_schedule(plan, mode=Mode.PARALLEL)
    assert schedule.makespan_minutes * MINUTE_SECONDS == pytest.approx(IDEAL_SECONDS)


def test_a_ratio_is_taken_within_a_round_before_its_median_is() -> None:
    rush = (
        a_sample(1, BARE, "rush", 1.0),
        a_sample(1, OURS, "rush", 2.0),  # 0.5 of bare's throughput
        a_sample(2, BARE, "rush", 10.0),  # a busy moment, for both
        a_sample(2, OURS, "rush", 16.0),  # 0.625
        a_sample(3, BARE, "rush", 1.0),
        a_sample(3, OURS, "rush", 1.25),  # 0.8
    )

    throughput = figure("throughput", *rush)

    assert throughput.ratio == pytest.approx(0.625)
    assert throughput.medians == {BARE: 10.0, OURS: 5.0}  # 10, 1, 10 and 5, 0.625, 8 a second


@pytest.mark.parametrize(("seconds", "is_met"), [(3.9, True), (4.0, False)])
def test_an_upper_aim_is_held_against_the_ratio(seconds: float, is_met: bool) -> None:
    alone = (a_sample(1, BARE, "alone", 3.15), a_sample(1, OURS, "alone", seconds))

    assert figure("makespan_alone", *alone).is_met is is_met  # 1.25 x 3.15 = 3.94


@pytest.mark.parametrize(("events", "is_met"), [(110, True), (111, False)])
def test_history_events_are_held_against_their_bound(events: int, is_met: bool) -> None:
    assert figure("history_events", a_sample(1, OURS, "alone", 3.2, events)).is_met is is_met


def test_processor_time_is_split_by_process_and_shared_by_the_requirements() -> None:
    rush = a_sample(1, OURS, "rush", 2.0)

    assert figure("cpu_ms", rush).medians[OURS] == pytest.approx(40.0)  # 0.4 s over 10
    assert figure("cpu_temporal_ms", rush).medians[OURS] == pytest.approx(20.0)


def test_what_was_not_measured_is_no_figure() -> None:
    plain = a_sample(1, ASYNCIO, "alone", 3.15)

    assert figure("throughput", plain).medians == {}
    assert figure("makespan_alone", plain).is_met is None


def test_the_document_says_where_its_figures_come_from() -> None:
    samples = (a_sample(1, BARE, "alone", 3.2, 62), a_sample(1, OURS, "alone", 3.3, 98))
    found, measured = figures(samples, METRICS), (Boundaries(20, [30.0, 40.0]),)
    result = Result(1, {"cpu": "A", "cores": 2}, {"temporalio": "1"}, found, measured, samples)

    document = json.loads(json.dumps(result.document()))

    assert document["schema_version"] == 2
    assert document["machine"] == {"cpu": "A", "cores": 2}
    assert {each["key"] for each in document["figures"]} == {metric.key for metric in METRICS}
    assert document["boundaries"] == [{"side_by_side": 20, "milliseconds": [30.0, 40.0]}]
    assert document["samples"][1]["contender"] == OURS


def test_a_boundary_runs_from_the_last_exit_to_each_start() -> None:
    times = [
        ("REQ-1", "start", 0.0), ("REQ-1", "end", 1.0),
        ("REQ-1", "start", 1.1), ("REQ-1", "start", 1.3), ("REQ-1", "end", 2.0),
        ("REQ-2", "start", 0.5), ("REQ-2", "end", 1.05), ("REQ-2", "start", 1.25),
    ]  # fmt: skip
    stamps = [Stamp(number, what, round(at * 1e9)) for number, what, at in times]

    found = boundaries(stamps)

    assert found == {"REQ-1": [100.0, 300.0], "REQ-2": [pytest.approx(200.0)]}


def test_percentiles_of_boundaries_lie_among_them() -> None:
    measured = Boundaries(1, [float(each) for each in range(101)])

    assert (measured.p50, measured.p95) == (50.0, 95.0)
