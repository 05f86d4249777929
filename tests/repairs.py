"""Runs of requirements whose failures are repaired, and what tests ask of them."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    DeliveryReport,
    RequirementState,
    RunEnd,
)
from tests.cluster import REPAIR, Cluster, ExitCodes, Scripts, until
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import Script

ROY, JEN = "Backend Implementation", "Frontend Implementation"
BILLY, LIZ = "Backend QA", "Frontend QA"
FIX_BACKEND, FIX_FRONTEND = "Fix build backend", "Fix build frontend"
CRASH = Script(exit_code=1, output="no notice here")
LATE = Script(end=RunEnd.TIMED_OUT)


def fail(*failures: str) -> Script:
    return Script({"test_result": "FAIL", "failures": list(failures)})


async def deliver(
    cluster: Cluster,
    scripts: Scripts | None = None,
    builds: ExitCodes | None = None,
    pipeline: str = "standard",
    **changes: Any,
) -> DeliveryReport:
    await cluster.open(scripts, builds, workspaces=changes.pop("workspaces", None))
    handle = await cluster.start(pipeline, bounds=REPAIR, **changes)
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()
    assert report.state is RequirementState.DELIVERED, report
    return report


async def until_asked(
    cluster: Cluster, scripts: Scripts | None = None, builds: ExitCodes | None = None
) -> Mapping[str, Any]:
    """Run until a human is asked; the question. What else failed may be repaired meanwhile."""
    await cluster.open(scripts, builds)
    await cluster.start(bounds=REPAIR)
    asked: list[Mapping[str, Any]] = []

    async def is_asked() -> bool:
        asked[:] = [e for e in await cluster.events() if e["eventType"] == "workflow.escalated"]
        return bool(asked)

    await until(is_asked, "a human is asked")
    return asked[-1]


async def interval(reader: SdlcReader, cluster: Cluster, nth: int) -> tuple[datetime, datetime]:
    """When the nth fix's agent worked."""
    (run,) = await reader.runs(f"{cluster.number}-FIX-{nth}")
    assert run.started_at
    assert run.ended_at
    return run.started_at, run.ended_at


def counts(cluster: Cluster, *stages: str) -> Sequence[int]:
    return [cluster.runs.started().count(stage) for stage in stages]
