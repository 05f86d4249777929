"""What a P0 needs is more urgent to Temporal than everything else that waits in its queues."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from temporalio import activity

from pipeline.model import (
    BuildRequest,
    BuildResult,
    DeliveryReport,
    Priority,
    RequirementState,
    RunResult,
    SlotRequest,
)
from pipeline.ports import StartListener
from tests.cluster import REPAIR, Cluster
from tests.fakes import Script
from tests.orchestra_plans import FOUR

T = TypeVar("T")
FAIL = Script({"test_result": "FAIL", "failures": ["wrong"]})


class Urgencies:
    """By number: the priority keys of the activities that ran agents and builds for it."""

    def __init__(self, cluster: Cluster) -> None:
        self.keys: dict[str, set[int | None]] = defaultdict(set)
        attach, run = cluster.runs.attach, cluster.builds.run

        async def attached(request: SlotRequest, on_start: StartListener) -> RunResult:
            return await self._noted(lambda: attach(request, on_start))

        async def built(request: BuildRequest, directory: str) -> BuildResult:
            return await self._noted(lambda: run(request, directory))

        cluster.runs.attach = attached  # type: ignore[method-assign] # it is watched
        cluster.builds.run = built  # type: ignore[method-assign] # so is this

    async def _noted(self, call: Callable[[], Awaitable[T]]) -> T:
        info = activity.info()
        self.keys[str(info.workflow_id)].add(info.priority.priority_key)
        return await call()


@pytest.mark.parametrize(("priority", "key"), [(Priority.P0, 1), (Priority.P3, 4)])
async def test_stages_builds_and_fixes_are_as_urgent_as_their_requirement(
    cluster: Cluster, priority: Priority, key: int
) -> None:
    await cluster.open({"Backend QA": [FAIL, Script()]})
    urgencies = Urgencies(cluster)
    handle = await cluster.start(FOUR, priority=priority, bounds=REPAIR)
    report: DeliveryReport = await handle.result()

    assert report.state is RequirementState.DELIVERED
    found = dict(urgencies.keys)
    assert found.pop(handle.id) == found.pop(f"{handle.id}-FIX-1") == {key}
    assert set(found) <= {f"{handle.id}/round-1"}
    assert {each for keys in found.values() for each in keys} <= {key}
