import asyncio

import pytest
from temporalio.client import WorkflowUpdateFailedError

from pipeline.model import ExtensionRequest
from tests.fakes import Script
from tests.house import Handle, House, until
from workflows.requirement import RequirementWorkflow


async def running_research(house: House) -> Handle:
    await house.open({"Research": [Script(minutes=1_500)]})
    handle = await house.start()

    async def is_running() -> bool:
        return bool(house.runs.started())

    await until(is_running, "Research runs")
    return handle


async def extend(handle: Handle, minutes: float) -> str:
    request = ExtensionRequest("Research", minutes, "ada", "nearly done")
    return await handle.execute_update(RequirementWorkflow.extend, request)


async def test_refused_extension_is_not_counted_by_the_next(house: House) -> None:
    handle = await running_research(house)
    house.runs.refused_extensions = 1

    with pytest.raises(WorkflowUpdateFailedError):
        await extend(handle, 30)
    run_id = await extend(handle, 10)

    # twice 45 minutes, and 10
    assert [(r, d.total_seconds() / 60) for r, d in house.runs.extensions] == [(run_id, 100)]


async def test_extensions_at_the_same_time_add_up(house: House) -> None:
    handle = await running_research(house)

    await asyncio.gather(extend(handle, 10), extend(handle, 20))

    assert max(d.total_seconds() / 60 for _, d in house.runs.extensions) == 120
