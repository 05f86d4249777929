"""P0 stops the line: others hold at their next boundary and go on by themselves."""

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
from tests.fakes import Script
from tests.house import REPAIR, Handle, House, delivered, until
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


async def open_p0(house: House, *, blocked_by: tuple[str, ...] = ()) -> str:
    """A P0 that nobody has begun: it is open in any state. What lasts until then may end."""
    number = f"{house.number}-URGENT"
    order = solo(number, Priority.P0)
    await house.store.accept_all([Acceptance(order, "It burns.", blocked_by=blocked_by)])
    await house.runs.let_end()
    return number


async def deliver_p0(house: House, number: str) -> None:
    handle = await house.start(SOLO, number=number, priority=Priority.P0)
    await delivered(handle)


async def until_held(house: House, reader: SdlcReader, *numbers: str, boundary: str = "") -> None:
    async def are_held() -> bool:
        views = [await reader.requirement(number) for number in numbers or (house.number,)]
        return all(any(boundary in ("", hold.boundary) for hold in view.holds) for view in views)

    await until(are_held, f"{numbers or house.number} held at {boundary or 'a boundary'}")


def started(house: House, number: str) -> list[str]:
    return [order.stage for order in house.runs.orders if order.number == number]


async def test_others_hold_at_their_next_boundary_and_resume_by_themselves(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open({ROY: [LONG]})
    handle = await house.start(FOUR)
    await house.until_running(ROY)
    urgent = await open_p0(house)
    await until_held(house, sdlc_reader, boundary=BUILD)

    view = await sdlc_reader.requirement(house.number)
    assert (view.state, view.waiting_for) == (RequirementState.HELD, urgent)
    assert {stage.state for stage in view.stages[2:]} <= {StageState.HELD, StageState.WAITING}
    assert sorted(started(house, house.number)) == [ROY, JEN]
    await deliver_p0(house, urgent)
    await delivered(handle)

    told = await house.types()
    assert told.count("workflow.resumed") == 1
    runs = await sdlc_reader.runs(house.number)
    assert {run.attempt for run in runs} == {1}


async def test_blocked_p0_goes_on_holding(house: House, sdlc_reader: SdlcReader) -> None:
    await house.open(builds=RED)
    urgent = await house.start(SOLO, number=f"{house.number}-P0", priority=Priority.P0)
    await house.until_blocked(urgent)
    handle = await house.start(FOUR)
    await until_held(house, sdlc_reader)

    abort = DecisionRequest(Answer.ABORT, "ada", "")
    await urgent.execute_update(RequirementWorkflow.decide, abort)
    await delivered(handle)


async def test_p0s_do_not_hold_each_other(house: House) -> None:
    await house.open()
    await open_p0(house)
    await delivered(await house.start(SOLO, priority=Priority.P0))

    assert "workflow.held" not in await house.types()


async def test_what_the_p0_waits_for_goes_on_while_others_are_held(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    await house.store.accept(solo(house.number), "It comes first.")
    urgent = await open_p0(house, blocked_by=(house.number,))
    other = await house.start(SOLO, number=f"{house.number}-OTHER")
    await until_held(house, sdlc_reader, other.id)

    await delivered(await house.start(SOLO))
    await deliver_p0(house, urgent)
    await delivered(other)


async def test_blocked_requirement_starts_when_its_blocker_is_delivered(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    first = f"{house.number}-FIRST"
    await house.store.accept(solo(first), "")
    await house.store.accept(solo(house.number), "")
    await house.store.add_blocker(house.number, first)
    handle = await house.start(SOLO)
    await until_held(house, sdlc_reader)

    await delivered(await house.start(SOLO, number=first), handle)

    order = [run.number for run in house.runs.orders]
    assert order == [first, house.number]


async def test_repair_is_held_while_the_requirement_stays_blocked(
    house: House, sdlc_reader: SdlcReader
) -> None:
    """The fix is held at its start."""
    await house.open({BILLY: [replace(FAIL, lasts=True), Script()]})
    handle = await house.start(FOUR, bounds=REPAIR)
    await house.until_running(BILLY)
    await house.until_running("Frontend QA")  # else the P0 holds her, and nothing is repaired
    urgent = await open_p0(house)
    fix = f"{house.number}-FIX-1"

    async def is_opened() -> bool:
        view = await sdlc_reader.requirement(house.number)
        return bool(view.fixes)

    await until(is_opened, "a fix is opened")
    await until_held(house, sdlc_reader, fix)
    view = await sdlc_reader.requirement(house.number)
    assert (view.state, view.waiting_for) == (RequirementState.BLOCKED, fix)
    assert (await sdlc_reader.requirement(fix)).waiting_for == urgent

    await deliver_p0(house, urgent)
    await delivered(handle)


async def test_gate_that_is_made_again_is_held(house: House, sdlc_reader: SdlcReader) -> None:
    """It waits in the workflow of the orchestrator, which is the one to wake."""
    fix = f"Fix verdict {BILLY}"
    await house.open({BILLY: [FAIL, Script()], fix: [LONG]})
    handle = await house.start(FOUR, bounds=REPAIR)
    await house.until_running(fix)
    urgent = await open_p0(house)
    await until_held(house, sdlc_reader, boundary=BUILD)
    assert (await sdlc_reader.requirement(house.number)).state is RequirementState.BLOCKED

    await deliver_p0(house, urgent)
    await delivered(handle)


async def test_fix_of_a_p0_is_not_held(house: House) -> None:
    await house.open(builds=RED)
    await open_p0(house)
    await delivered(await house.start(SOLO, priority=Priority.P0, bounds=REPAIR))

    assert "workflow.held" not in await house.types(f"{house.number}-FIX-1")


async def test_sequential_requirement_resumes_in_the_order_of_the_plan(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open({"Research": [LONG]})
    handle = await house.start(FIVE, sequential=True)
    await house.until_running("Research")
    urgent = await open_p0(house)
    await until_held(house, sdlc_reader, boundary=ROY)
    await until_held(house, sdlc_reader, boundary=JEN)
    await deliver_p0(house, urgent)
    await delivered(handle)

    assert started(house, house.number)[:3] == ["Research", ROY, JEN]


async def test_held_requirement_can_be_cancelled(house: House, sdlc_reader: SdlcReader) -> None:
    await house.open()
    await open_p0(house)
    handle = await house.start(FOUR)
    await until_held(house, sdlc_reader)

    await handle.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    view = await sdlc_reader.requirement(house.number)
    assert (view.state, view.holds) == (RequirementState.CANCELLED, ())
    assert {stage.state for stage in view.stages} == {StageState.WAITING}


async def test_delivery_is_held(house: House, sdlc_reader: SdlcReader) -> None:
    await house.open({"Research": [LONG]})
    handle = await house.start(team_of("Research"))
    await house.until_running("Research")
    urgent = await open_p0(house)
    await until_held(house, sdlc_reader, boundary="deliver")

    await deliver_p0(house, urgent)
    await delivered(handle)


async def test_nobody_is_forgotten(house: House, sdlc_reader: SdlcReader) -> None:
    await house.open()
    urgent = await open_p0(house)
    numbers = [f"{house.number}-{nth}" for nth in range(20)]
    handles = [await house.start(SOLO, number=number) for number in numbers]
    await until_held(house, sdlc_reader, *numbers)

    await deliver_p0(house, urgent)
    await delivered(*handles)

    assert not any([await house.types(number) == [] for number in numbers])
    for number in numbers:
        assert (await house.types(number)).count("workflow.resumed") == 1
    assert replace(await house.store.to_wake(), epoch=0).workflow_ids == ()


async def test_start_is_logged_when_it_happens(
    house: House, sdlc_reader: SdlcReader, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    await house.open()
    urgent = await open_p0(house)
    handle = await house.start(SOLO)
    await until_held(house, sdlc_reader)

    def starts() -> int:
        told = (record.getMessage() for record in caplog.records)
        return sum(line.startswith(f"[{handle.id}] Starting ") for line in told)

    assert starts() == 0
    await deliver_p0(house, urgent)
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
    house: House,
    sdlc_reader: SdlcReader,
    monkeypatch: pytest.MonkeyPatch,
    plan: Pipeline,
    first: str,
    boundary: str,
) -> None:
    monkeypatch.setattr(options, "_HOLD_CHECKS", (timedelta(milliseconds=50),) * 2)
    await add_search_attribute(house, "DeliveryStatus")
    await house.open({first: [LONG]})
    before = "" if first else await open_p0(house)
    handle = await house.start(plan, search_attributes=("DeliveryStatus",))
    if first:
        await house.until_running(first)
    urgent = before or await open_p0(house)
    await until_held(house, sdlc_reader, boundary=boundary)

    async def has_looked() -> bool:
        return await looks(handle) > 5

    await until(has_looked, "it has looked several times")
    await deliver_p0(house, urgent)
    await delivered(handle)

    taken = ["RUNNING"] if first else []
    assert await statuses(handle) == ["ACCEPTED", *taken, "HELD", "RUNNING", "DELIVERED"]


async def add_search_attribute(house: House, name: str) -> None:
    client = house._client  # the test looks behind the house
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
