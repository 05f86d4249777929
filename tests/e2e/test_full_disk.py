"""The disk of the state directory is full for a while: held and said so, nothing is lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
from temporalio.service import RPCError

from adapters.local_stack import StackAddresses
from adapters.sdlc.views import IncidentView
from cli.hints import sasha_status
from pipeline.errors import DependencyUnavailable
from pipeline.model import IncidentEnd, RequirementState, disk_of
from tests.eventually import PATIENCE_SECONDS, eventually, eventually_async
from tests.full_disk import SmallDisk, small_disk
from tests.orchestra import Orchestra
from tests.orchestra_plans import SOLO

AGENTS = 4


@pytest.fixture
async def disk(stack: StackAddresses, tmp_path: Path) -> AsyncIterator[SmallDisk]:
    with small_disk(tmp_path / "host" / "home", 64) as disk:
        yield disk


@pytest.fixture
async def orchestra(
    stack: StackAddresses, tmp_path: Path, disk: SmallDisk
) -> AsyncIterator[Orchestra]:
    orchestra = Orchestra(stack, tmp_path / "host")
    await orchestra.open()
    try:
        yield orchestra
    finally:
        await orchestra.close()


async def test_full_disk_holds_and_loses_nobody(orchestra: Orchestra, disk: SmallDisk) -> None:
    puppets = orchestra.puppets
    numbers = [f"{orchestra.number}-{nth}" for nth in range(AGENTS)]
    puppets.hold(*(f"{number}.roy" for number in numbers))
    puppets.task("roy", files={"backend/roy.txt": "roy\n"})
    await orchestra.worker.start()
    handles = [await orchestra.start(SOLO, number=number) for number in numbers]
    await eventually(lambda: puppets.starts("roy") == AGENTS, "all agents at work")

    disk.fill()
    late = f"{orchestra.number}-LATE"
    await eventually(lambda: "is down: nothing starts" in orchestra.worker.log, "noticed")
    handles.append(await orchestra.start(SOLO, number=late))
    ending = numbers[: AGENTS // 2]
    puppets.release(*(f"{number}.roy" for number in ending))
    await eventually(lambda: puppets.ends("roy") == len(ending), "agents end on the full disk")
    await eventually_async(lambda: _has_acted(orchestra), "Sasha has acted for the first time")
    assert puppets.starts("roy") == AGENTS
    disk.empty()
    puppets.release(*(f"{number}.roy" for number in numbers))
    async with asyncio.timeout(PATIENCE_SECONDS):
        reports = await asyncio.gather(*(handle.result() for handle in handles))

    assert {report.state for report in reports} == {RequirementState.DELIVERED}
    assert puppets.starts("roy") == AGENTS + 1
    rows = await orchestra.query("SELECT starts FROM runs")
    assert [row[0] for row in rows] == [1] * (AGENTS + 1)
    holds = await orchestra.query("SELECT number, held_by, ended_at FROM holds")
    host = orchestra.environment["AGOG_HOST"]
    assert late in {row[0] for row in holds}
    by = {name for row in holds for name in row[1]}
    assert by - {*numbers, late} == {disk_of(host)}  # the others waited for a turn to deliver
    assert all(row[2] for row in holds)
    (incident,) = await _incidents(orchestra)
    assert (incident.component, incident.end) == ("disk", IncidentEnd.REPAIRED)


async def _has_acted(orchestra: Orchestra) -> bool:
    with suppress(RPCError, DependencyUnavailable):  # nobody has called her, or she is busy
        status = await sasha_status(orchestra.temporal, orchestra.installation)
        return any(each.actions for each in status.remediations)
    return False


async def _incidents(orchestra: Orchestra) -> tuple[IncidentView, ...]:
    async def are_written() -> bool:
        return bool(await orchestra.reader.incidents())

    await eventually_async(are_written, "an incident")
    return await orchestra.reader.incidents()
