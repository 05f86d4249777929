"""A host whose slots are used: its stages wait, are shown as queued, and continue by themselves."""

from temporalio.api.sdk.v1 import WorkflowMetadata

from adapters.sdlc.reader import SdlcReader
from pipeline.model import Priority
from tests.cluster import Cluster, Handle, delivered, until
from tests.fakes import Script
from tests.orchestra_plans import FOUR, SOLO

ROY = "Backend Implementation"


async def current_details(handle: Handle) -> str:
    metadata: WorkflowMetadata = await handle.query("__temporal_workflow_metadata")
    return metadata.current_details


async def saturated(cluster: Cluster, reader: SdlcReader) -> tuple[Handle, Handle]:
    """One whose agent has the only slot until it is let end, and one that is queued."""
    await cluster.open()
    cluster.runs.slots = 1
    cluster.runs.by_number[cluster.number] = Script(lasts=True)
    first = await cluster.start(SOLO)
    await cluster.until_running(ROY)
    second = await cluster.start(SOLO, number=f"{cluster.number}-B")

    async def is_queued() -> bool:
        return bool((await reader.requirement(second.id)).queued)

    await until(is_queued, "it waits for a slot")
    return first, second


async def test_stage_waits_for_a_slot_and_nothing_of_it_is_opened(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    first, second = await saturated(cluster, sdlc_reader)
    assert await sdlc_reader.runs(second.id) == ()

    async def is_shown() -> bool:
        row = ["", ROY, "roy", "queued for a slot"]
        shown = (await current_details(second)).splitlines()
        return any([cell.strip() for cell in line.split("|")][:4] == row for line in shown)

    await until(is_shown, "the Web UI says so")
    await cluster.runs.let_end(first.id)
    await delivered(first, second)

    [run] = await sdlc_reader.runs(second.id)
    assert (run.attempt, run.starts) == (1, 1)
    assert (await sdlc_reader.requirement(second.id)).queued == ()


async def test_whole_plan_runs_on_one_slot(cluster: Cluster) -> None:
    await cluster.open()
    cluster.runs.slots = 1
    await delivered(await cluster.start(FOUR))

    assert len(cluster.runs.started()) == 4


async def test_stage_that_waits_for_a_slot_is_held_when_its_turn_comes_under_a_p0(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    first, second = await saturated(cluster, sdlc_reader)
    urgent = await cluster.start(SOLO, number=f"{cluster.number}-P0", priority=Priority.P0)

    async def is_urgent_queued() -> bool:
        return bool((await sdlc_reader.requirement(urgent.id)).queued)

    await until(is_urgent_queued, "the P0 waits for a slot")
    await cluster.runs.let_end(first.id)
    await delivered(urgent, first, second)

    numbers = [order.number for order in cluster.runs.orders]
    assert numbers == [first.id, urgent.id, second.id]
