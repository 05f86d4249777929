"""Rows that nobody attends to any more, with the real workflow: Sasha starts or closes them."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from adapters.care.records import RecordCare
from adapters.sdlc.database import open_database
from adapters.sdlc.reader import SdlcReader
from pipeline.model import (
    Alert,
    AlertKind,
    Closing,
    DeliveryReport,
    Priority,
    RequirementOrder,
    RequirementRef,
    RequirementState,
)
from tests.cluster import Cluster, Handle, delivered, recorded_incidents
from tests.eventually import eventually_async
from tests.fakes import Script, ScriptedCare
from tests.orchestra_plans import SOLO
from tests.plans import shipped
from workflows.starting import start_requirement

NATS = Alert(AlertKind.NATS_DOWN, "nats", detail="No answer.")


@pytest.fixture
async def care(cluster: Cluster, database_url: str) -> AsyncIterator[RecordCare]:
    database = open_database(database_url)
    yield RecordCare(cluster.identity, cluster.store, database, start_requirement, timedelta())
    await database.close()


async def test_requirement_whose_start_was_killed_is_delivered(
    cluster: Cluster, care: RecordCare
) -> None:
    await cluster.open()
    plan = shipped("standard")
    order = RequirementOrder(cluster.number, "A title", Priority.P0, plan, False, None)
    await cluster.store.accept(order, "A description")

    (alert,) = await care.look()
    await care.act(alert)

    handle = cluster._client.get_workflow_handle(cluster.number, result_type=DeliveryReport)
    assert (await handle.result()).state is RequirementState.DELIVERED
    assert not await care.look()


async def test_requirement_that_was_terminated_in_mid_run_ends_with_its_events_out(
    cluster: Cluster, care: RecordCare, sdlc_reader: SdlcReader
) -> None:
    await cluster.open({"Research": [Script(minutes=1_000_000)]})
    handle = await cluster.start()
    number = cluster.number

    async def is_under_way() -> bool:
        stages = (await sdlc_reader.requirement(number)).stages
        return stages[0].state == "running"

    await eventually_async(is_under_way, "a running stage")
    await handle.terminate(reason="enough")
    await care.act(Alert(AlertKind.ROW_WITHOUT_WORKFLOW, "record", number))

    view = await sdlc_reader.requirement(number)
    assert (view.state, view.reason) == (
        RequirementState.CANCELLED,
        "Terminated in Temporal: enough",
    )
    assert view.stages[0].state == "failed"
    await cluster.store.publish_pending(number, cluster._publisher)
    events = await sdlc_reader.events(number)
    assert all(event.published_at for event in events)
    assert events[-1].type == "workflow.performance"


@pytest.mark.parametrize("away", [[], [NATS]], ids=["all is well", "NATS is away"])
async def test_p0_that_was_terminated_holds_nobody_once_its_row_is_closed(
    cluster: Cluster,
    care: RecordCare,
    sdlc_reader: SdlcReader,
    monkeypatch: pytest.MonkeyPatch,
    away: list[Alert],
) -> None:
    urgent, held = await one_held_by_a_p0(cluster, sdlc_reader)
    await urgent.terminate(reason="enough")
    row = Alert(AlertKind.ROW_WITHOUT_WORKFLOW, "record", urgent.id)
    cluster.cluster_care.alerts = [row]
    broken = ScriptedCare()
    broken.alerts = away
    cluster.nats._care = broken  # that nobody has noticed yet

    async def act(alert: Alert) -> str:
        said = await care.act(alert)
        cluster.cluster_care.alerts = []
        return said

    monkeypatch.setattr(cluster.cluster_care, "act", act)
    await cluster.scheduled_check()

    (incident,) = await recorded_incidents(sdlc_reader, 1)
    assert incident.actions == (f"{urgent.id} is CANCELLED: Terminated in Temporal: enough",)
    broken.alerts = []
    await delivered(held)


async def test_notification_that_was_lost_is_made_up_for_by_a_check(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    urgent, held = await one_held_by_a_p0(cluster, sdlc_reader)
    await urgent.terminate()
    view = await sdlc_reader.requirement(urgent.id)
    assert view.workflow_run
    ref = RequirementRef(urgent.id, view.workflow_run)
    await cluster.store.close_requirement(Closing(ref, RequirementState.CANCELLED, "Killed here."))

    await cluster.scheduled_check()

    await delivered(held)


async def one_held_by_a_p0(cluster: Cluster, reader: SdlcReader) -> tuple[Handle, Handle]:
    """A P0 in mid run, and a requirement that waits for its end."""
    urgent = f"{cluster.number}-P0"
    await cluster.open()
    cluster.runs.by_number[urgent] = Script(minutes=1_000_000)
    first = await cluster.start(SOLO, number=urgent, priority=Priority.P0)
    await cluster.until_running("Backend Implementation")
    second = await cluster.start(SOLO)

    async def is_held() -> bool:
        return (await reader.requirement(cluster.number)).state is RequirementState.HELD

    await eventually_async(is_held, "the hold")
    return first, second
