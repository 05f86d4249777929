"""Rows that nobody attends to any more, with the real workflow: Sasha starts or closes them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from adapters.care.records import RecordCare
from adapters.sdlc.database import open_database
from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    Closing,
    DeliveryReport,
    Priority,
    RequirementOrder,
    RequirementRef,
    RequirementState,
    Symptom,
    SymptomKind,
)
from tests.eventually import eventually_async
from tests.fakes import Script, ScriptedCare
from tests.house import Handle, House, delivered, recorded_incidents
from tests.orchestra_plans import SOLO
from tests.plans import shipped
from workflows.starting import start_requirement

NATS = Symptom(SymptomKind.NATS_DOWN, "nats", detail="No answer.")


@pytest.fixture
async def care(house: House, database_url: str) -> AsyncIterator[RecordCare]:
    database = open_database(database_url)
    yield RecordCare(house.identity, house.store, database, start_requirement, timedelta())
    await database.close()


async def test_requirement_whose_start_was_killed_is_delivered(
    house: House, care: RecordCare
) -> None:
    await house.open()
    plan = shipped("standard")
    order = RequirementOrder(house.number, "A title", Priority.P0, plan, False, None)
    await house.store.accept(order, "A description")

    (symptom,) = await care.look()
    await care.act(symptom)

    handle = house._client.get_workflow_handle(house.number, result_type=DeliveryReport)
    assert (await handle.result()).state is RequirementState.DELIVERED
    assert not await care.look()


async def test_requirement_that_was_terminated_in_mid_run_ends_with_its_events_out(
    house: House, care: RecordCare, sdlc_reader: SdlcReader
) -> None:
    await house.open({"Research": [Script(minutes=1_000_000)]})
    handle = await house.start()
    number = house.number

    async def is_under_way() -> bool:
        stages = (await sdlc_reader.requirement(number)).stages
        return stages[0].state == "running"

    await eventually_async(is_under_way, "a running stage")
    await handle.terminate(reason="enough")
    await care.act(Symptom(SymptomKind.ROW_WITHOUT_WORKFLOW, "record", number))

    view = await sdlc_reader.requirement(number)
    assert (view.state, view.reason) == (
        RequirementState.CANCELLED,
        "Terminated in Temporal: enough",
    )
    assert view.stages[0].state == "failed"
    await house.store.publish_pending(number, house._publisher)
    events = await sdlc_reader.events(number)
    assert all(event.published_at for event in events)
    assert events[-1].type == "workflow.performance"


@pytest.mark.parametrize("away", [[], [NATS]], ids=["all is well", "NATS is away"])
async def test_p0_that_was_terminated_holds_nobody_once_its_row_is_closed(
    house: House,
    care: RecordCare,
    sdlc_reader: SdlcReader,
    monkeypatch: pytest.MonkeyPatch,
    away: list[Symptom],
) -> None:
    urgent, held = await one_held_by_a_p0(house, sdlc_reader)
    await urgent.terminate(reason="enough")
    row = Symptom(SymptomKind.ROW_WITHOUT_WORKFLOW, "record", urgent.id)
    house.cluster_care.symptoms = [row]
    broken = ScriptedCare()
    broken.symptoms = away
    house.nats._care = broken  # that nobody has noticed yet

    async def act(symptom: Symptom) -> str:
        said = await care.act(symptom)
        house.cluster_care.symptoms = []
        return said

    monkeypatch.setattr(house.cluster_care, "act", act)
    await house.patrol()

    (incident,) = await recorded_incidents(sdlc_reader, 1)
    assert incident.actions == (f"{urgent.id} is CANCELLED: Terminated in Temporal: enough",)
    broken.symptoms = []
    await delivered(held)


async def test_wake_that_was_lost_is_made_up_for_by_a_check(
    house: House, sdlc_reader: SdlcReader
) -> None:
    urgent, held = await one_held_by_a_p0(house, sdlc_reader)
    await urgent.terminate()
    view = await sdlc_reader.requirement(urgent.id)
    assert view.workflow_run
    ref = RequirementRef(urgent.id, view.workflow_run)
    await house.store.close_requirement(Closing(ref, RequirementState.CANCELLED, "Killed here."))

    await house.patrol()

    await delivered(held)


async def one_held_by_a_p0(house: House, reader: SdlcReader) -> tuple[Handle, Handle]:
    """A P0 in mid run, and a requirement that waits for its end."""
    urgent = f"{house.number}-P0"
    await house.open()
    house.runs.by_number[urgent] = Script(minutes=1_000_000)
    first = await house.start(SOLO, number=urgent, priority=Priority.P0)
    await house.until_running("Backend Implementation")
    second = await house.start(SOLO)

    async def is_held() -> bool:
        return (await reader.requirement(house.number)).state is RequirementState.HELD

    await eventually_async(is_held, "the hold")
    return first, second
