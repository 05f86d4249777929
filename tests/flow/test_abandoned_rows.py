"""Rows that nobody attends to any more, with the real workflow: Sasha starts or closes them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from adapters.house_care import RecordCare
from adapters.sdlc.database import open_database
from adapters.sdlc_reader import SdlcReader
from pipeline.model import (
    DeliveryReport,
    Priority,
    RequirementOrder,
    RequirementState,
    Symptom,
    SymptomKind,
)
from tests.eventually import eventually_async
from tests.fakes import Script
from tests.house import House
from tests.plans import shipped
from workflows.starting import start_requirement


@pytest.fixture
async def care(house: House, database_url: str) -> AsyncIterator[RecordCare]:
    database = open_database(database_url)
    yield RecordCare(house._client, house.store, database, start_requirement, timedelta())
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
