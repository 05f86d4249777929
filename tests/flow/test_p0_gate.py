"""P0 stops the line: others hold at their next boundary and continue by themselves."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import WorkflowFailureError
from temporalio.converter import default

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from pipeline.model import (
    OPENING,
    Answer,
    DecisionRequest,
    Pipeline,
    Priority,
    RequirementOrder,
    RequirementState,
    StageState,
)
from tests.cluster import REPAIR, Cluster, Handle, delivered, until
from tests.fakes import Script
from tests.orchestra_plans import FIVE, FOUR, SOLO, team_of
from workflows import options
from workflows.requirement import RequirementWorkflow

ROY, JEN = "Backend Implementation", "Frontend Implementation"
BILLY, BUILD = "Backend QA", "build backend"
FAIL = Script({"test_result": "FAIL", "failures": ["wrong"]})
LONG = Script(lasts=True)
RED = {"backend": [2, 0]}


def solo(number: str, priority: Priority = Priority.P2) -> RequirementOrder:
    return RequirementOrder(number, "A title", priority, SOLO, False, None)


async def open_p0(cluster: Cluster, *, blocked_by: tuple[str, ...] = ()) -> str:
    """A P0 that nobody has begun: it is open in any state. What lasts until then may end."""
    number = f"{cluster.number}-URGENT"
    order = solo(number, Priority.P0)
    await cluster.store.accept_all([Acceptance(order, "It burns.", blocked_by=blocked_by)])
    await cluster.runs.let_end()
    return number


async def deliver_p0(cluster: Cluster, number: str) -> None:
    handle = await cluster.start(SOLO, number=number, priority=Priority.P0)
    await delivered(handle)


async def until_held(
    cluster: Cluster, reader: SdlcReader, *numbers: str, boundary: str = ""
) -> None:
    async def are_held() -> bool:
        views = [await reader.requirement(number) for number in numbers or (cluster.number,)]
        return all(any(boundary in ("", hold.boundary) for hold in view.holds) for view in views)

    await until(are_held, f"{numbers or cluster.number} held at {boundary or 'a boundary'}")


def started(cluster: Cluster, number: str) -> list[str]:
    return [order.stage for order in cluster.runs.orders if order.number == number]


async def test_others_hold_at_their_next_boundary_and_resume_by_themselves(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({ROY: [LONG]})
    handle = await cluster.start(FOUR)
    await cluster.until_running(ROY)
    await cluster.until_running(JEN)  # else the P0 holds her as well
    urgent = await open_p0(cluster)
    await until_held(cluster, sdlc_reader, boundary=BUILD)

    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.waiting_for) == (RequirementState.HELD, urgent)
    assert {stage.state for stage in view.stages[2:]} <= {StageState.HELD, StageState.WAITING}
    assert sorted(started(cluster, cluster.number)) == [ROY, JEN]
    await deliver_p0(cluster, urgent)
    await delivered(handle)

    told = await cluster.types()
    assert told.count("workflow.resumed") == 1
    runs = await sdlc_reader.runs(cluster.number)
    assert {run.attempt for run in runs} == {1}


async def test_blocked_p0_continues_holding(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open(builds=RED)
    urgent = await cluster.start(SOLO, number=f"{cluster.number}-P0", priority=Priority.P0)
    await cluster.until_blocked(urgent)
    handle = await cluster.start(FOUR)
    await until_held(cluster, sdlc_reader)

    abort = DecisionRequest(Answer.ABORT, "ada", "")
    await urgent.execute_update(RequirementWorkflow.decide, abort)
    await delivered(handle)


async def test_p0s_do_not_hold_each_other(cluster: Cluster) -> None:
    await cluster.open()
    await open_p0(cluster)
    await delivered(await cluster.start(SOLO, priority=Priority.P0))

    assert "workflow.held" not in await cluster.types()


async def test_what_the_p0_waits_for_continues_while_others_are_held(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    await cluster.store.accept(solo(cluster.number), "It comes first.")
    urgent = await open_p0(cluster, blocked_by=(cluster.number,))
    other = await cluster.start(SOLO, number=f"{cluster.number}-OTHER")
    await until_held(cluster, sdlc_reader, other.id)

    await delivered(await cluster.start(SOLO))
    await deliver_p0(cluster, urgent)
    await delivered(other)


async def test_blocked_requirement_starts_when_its_blocker_is_delivered(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    first = f"{cluster.number}-FIRST"
    await cluster.store.accept(solo(first), "")
    await cluster.store.accept(solo(cluster.number), "")
    await cluster.store.add_blocker(cluster.number, first)
    handle = await cluster.start(SOLO)
    await until_held(cluster, sdlc_reader)

    await delivered(await cluster.start(SOLO, number=first), handle)

    order = [run.number for run in cluster.runs.orders]
    assert order == [first, cluster.number]


async def test_repair_is_held_while_the_requirement_stays_blocked(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    """The fix is held at its start."""
    await cluster.open({BILLY: [replace(FAIL, lasts=True), Script()]})
    handle = await cluster.start(FOUR, bounds=REPAIR)
    await cluster.until_running(BILLY)
    await cluster.until_running("Frontend QA")  # else the P0 holds her, and nothing is repaired
    urgent = await open_p0(cluster)
    fix = f"{cluster.number}-FIX-1"

    async def is_opened() -> bool:
        view = await sdlc_reader.requirement(cluster.number)
        return bool(view.fixes)

    await until(is_opened, "a fix is opened")
    await until_held(cluster, sdlc_reader, fix)
    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.waiting_for) == (RequirementState.BLOCKED, fix)
    assert (await sdlc_reader.requirement(fix)).waiting_for == urgent

    await deliver_p0(cluster, urgent)
    await delivered(handle)


async def test_gate_that_is_made_again_is_held(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    """It waits in the workflow of the orchestrator, which is the one to notify."""
    fix = f"Fix verdict {BILLY}"
    await cluster.open({BILLY: [FAIL, Script()], fix: [LONG]})
    handle = await cluster.start(FOUR, bounds=REPAIR)
    await cluster.until_running(fix)
    urgent = await open_p0(cluster)
    await until_held(cluster, sdlc_reader, boundary=BUILD)
    assert (await sdlc_reader.requirement(cluster.number)).state is RequirementState.BLOCKED

    await deliver_p0(cluster, urgent)
    await delivered(handle)


async def test_fix_of_a_p0_is_not_held(cluster: Cluster) -> None:
    await cluster.open(builds=RED)
    await open_p0(cluster)
    await delivered(await cluster.start(SOLO, priority=Priority.P0, bounds=REPAIR))

    assert "workflow.held" not in await cluster.types(f"{cluster.number}-FIX-1")


async def test_sequential_requirement_resumes_in_the_order_of_the_plan(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({"Research": [LONG]})
    handle = await cluster.start(FIVE, sequential=True)
    await cluster.until_running("Research")
    urgent = await open_p0(cluster)
    await until_held(cluster, sdlc_reader, boundary=ROY)
    await until_held(cluster, sdlc_reader, boundary=JEN)
    await deliver_p0(cluster, urgent)
    await delivered(handle)

    assert started(cluster, cluster.number)[:3] == ["Research", ROY, JEN]


async def test_held_requirement_can_be_cancelled(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open()
    await open_p0(cluster)
    handle = await cluster.start(FOUR)
    await until_held(cluster, sdlc_reader)

    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.holds) == (RequirementState.CANCELLED, ())
    assert {stage.state for stage in view.stages} == {StageState.WAITING}


async def test_delivery_is_held(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open({"Research": [LONG]})
    handle = await cluster.start(team_of("Research"))
    await cluster.until_running("Research")
    urgent = await open_p0(cluster)
    await until_held(cluster, sdlc_reader, boundary="deliver")

    await deliver_p0(cluster, urgent)
    await delivered(handle)


async def test_nobody_is_forgotten(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open()
    urgent = await open_p0(cluster)
    numbers = [f"{cluster.number}-{nth}" for nth in range(20)]
    handles = [await cluster.start(SOLO, number=number) for number in numbers]
    await until_held(cluster, sdlc_reader, *numbers)

    await deliver_p0(cluster, urgent)
    await delivered(*handles)

    assert not any([await cluster.types(number) == [] for number in numbers])
    for number in numbers:
        assert (await cluster.types(number)).count("workflow.resumed") == 1
    assert replace(await cluster.store.to_notify(), gate_version=0).workflow_ids == ()


async def test_start_is_logged_when_it_happens(
    cluster: Cluster, sdlc_reader: SdlcReader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await cluster.open()
    urgent = await open_p0(cluster)
    handle = await cluster.start(SOLO)
    await until_held(cluster, sdlc_reader)

    def starts() -> int:
        told = (record.getMessage() for record in caplog.records)
        return sum(line.startswith(f"[{handle.id}] Starting ") for line in told)

    assert starts() == 0
    await deliver_p0(cluster, urgent)
    await delivered(handle)
    assert starts() == 1


@pytest.mark.parametrize(
    ("plan", "first", "boundary"),
    [
        (SOLO, "", OPENING),
        (team_of("Research", "Backend"), "Research", ROY),
        (SOLO, ROY, BUILD),
        (team_of("Research"), "Research", "deliver"),
    ],
)
async def test_held_requirement_is_shown_as_held_however_often_it_looks(
    cluster: Cluster,
    sdlc_reader: SdlcReader,
    monkeypatch: pytest.MonkeyPatch,
    plan: Pipeline,
    first: str,
    boundary: str,
) -> None:
    monkeypatch.setattr(options, "_HOLD_CHECKS", (timedelta(milliseconds=50),) * 2)
    await add_search_attribute(cluster, "DeliveryStatus")
    await cluster.open({first: [LONG]})
    before = "" if first else await open_p0(cluster)
    handle = await cluster.start(plan, search_attributes=("DeliveryStatus",))
    if first:
        await cluster.until_running(first)
    urgent = before or await open_p0(cluster)
    await until_held(cluster, sdlc_reader, boundary=boundary)

    async def has_looked() -> bool:
        return await looks(handle) > 5

    await until(has_looked, "it has looked several times")
    await deliver_p0(cluster, urgent)
    await delivered(handle)

    taken = ["RUNNING"] if first else []
    assert await statuses(handle) == ["ACCEPTED", *taken, "HELD", "RUNNING", "DELIVERED"]


async def add_search_attribute(cluster: Cluster, name: str) -> None:
    client = cluster._client  # the test looks behind the cluster
    request = AddSearchAttributesRequest(namespace=client.namespace)
    request.search_attributes[name] = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
    await client.operator_service.add_search_attributes(request)


async def looks(handle: Handle) -> int:
    """How many timers of holds have fired."""
    history = await handle.fetch_history()
    return sum(event.HasField("timer_fired_event_attributes") for event in history.events)


async def statuses(handle: Handle) -> Sequence[str]:
    """What the Web UI has shown, change by change."""
    shown: list[str] = []
    for event in (await handle.fetch_history()).events:
        update = event.upsert_workflow_search_attributes_event_attributes.search_attributes
        if value := update.indexed_fields.get("DeliveryStatus"):
            shown += default().payload_converter.from_payloads([value])
    return shown
