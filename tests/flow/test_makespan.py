from datetime import timedelta

import pytest

from tests.cluster import Cluster
from tests.fakes import Script

BOTH = {"Backend QA": [Script({"needs_todd": True})], "Frontend QA": [Script({"needs_vic": True})]}


async def check_minutes(cluster: Cluster, elapsed: timedelta, minutes: int) -> None:
    """To the minute: what passes beside the work is real time, on a busy machine more of it.

    Two stages do not start in the same moment, so the time of a pair holds some of that as well.
    """
    (performance,) = [
        event for event in await cluster.events() if event["eventType"] == "workflow.performance"
    ]
    assert performance["parallelTime"] * 3600 == pytest.approx(minutes * 60, abs=30)
    assert elapsed.total_seconds() == pytest.approx(minutes * 60, abs=30)


@pytest.mark.parametrize(
    ("pipeline", "minutes"),
    [("standard", 315), ("final-stages", 300), ("critical-path", 270)],
)
async def test_guides_day_takes_exactly_its_critical_path(
    day_cluster: Cluster, pipeline: str, minutes: int
) -> None:
    await day_cluster.open()

    await check_minutes(day_cluster, await day_cluster.deliver(pipeline), minutes)


@pytest.mark.parametrize(
    ("pipeline", "minutes"),
    [("standard", 375), ("final-stages", 360), ("critical-path", 330)],
)
async def test_both_specialists_run_beside_each_other(
    day_cluster: Cluster, pipeline: str, minutes: int
) -> None:
    await day_cluster.open(BOTH)

    await check_minutes(day_cluster, await day_cluster.deliver(pipeline), minutes)


@pytest.mark.parametrize("pipeline", ["standard", "final-stages", "critical-path"])
async def test_sequential_mode_adds_up_all_minutes(day_cluster: Cluster, pipeline: str) -> None:
    await day_cluster.open()

    await check_minutes(day_cluster, await day_cluster.deliver(pipeline, sequential=True), 420)


async def test_worker_with_the_switch_off_runs_one_stage_after_another(
    day_cluster: Cluster,
) -> None:
    await day_cluster.open(parallel=False)

    await check_minutes(day_cluster, await day_cluster.deliver(), 420)
