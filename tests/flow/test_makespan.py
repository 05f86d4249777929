from datetime import timedelta

import pytest

from tests.fakes import Script
from tests.house import House

MINUTE = timedelta(minutes=1)
TOLERANCE = timedelta(seconds=1)
BOTH = {"Backend QA": [Script({"needs_todd": True})], "Frontend QA": [Script({"needs_vic": True})]}


@pytest.mark.parametrize(
    ("pipeline", "minutes", "with_specialists"),
    [("standard", 315, 375), ("final-stages", 300, 360), ("critical-path", 270, 330)],
)
async def test_guides_day_takes_exactly_its_critical_path(
    house: House, pipeline: str, minutes: int, with_specialists: int
) -> None:
    await house.open()
    plain = await house.deliver(pipeline)
    await house.close()
    await house.open(BOTH)
    full = await house.deliver(pipeline, number="REQ-2")

    assert abs(plain - minutes * MINUTE) < TOLERANCE
    assert abs(full - with_specialists * MINUTE) < TOLERANCE


@pytest.mark.parametrize("pipeline", ["standard", "final-stages", "critical-path"])
async def test_sequential_mode_adds_up_all_minutes(house: House, pipeline: str) -> None:
    await house.open()

    elapsed = await house.deliver(pipeline, sequential=True)

    assert abs(elapsed - 420 * MINUTE) < TOLERANCE


async def test_worker_with_the_switch_off_runs_one_stage_after_another(house: House) -> None:
    await house.open(parallel=False)

    elapsed = await house.deliver()

    assert abs(elapsed - 420 * MINUTE) < TOLERANCE
