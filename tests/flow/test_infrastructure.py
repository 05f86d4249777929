"""A P0 that stands for a component: however its workflow ends, nobody is held by it for ever."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from adapters.care.records import RecordCare
from adapters.sdlc.database import open_database
from adapters.sdlc.reader import SdlcReader
from pipeline.infrastructure import PLAN
from pipeline.model import (
    Alert,
    AlertKind,
    Answer,
    Closing,
    DecisionRequest,
    Priority,
    RequirementOrder,
    RequirementRef,
    RequirementState,
    SashaStatus,
)
from tests.cluster import Cluster, is_looked_after, recorded_incidents, until
from workflows import continuing
from workflows.requirement import RequirementWorkflow
from workflows.starting import start_requirement

pytestmark = pytest.mark.usefixtures("hasty")

DISK = Alert(AlertKind.DISK_LOW, "disk", "here", "1 MiB is free.")
DATABASE = Alert(AlertKind.DATABASE_DOWN, "database", detail="No answer.")
FIRST, SECOND = "REQ-INFRA-disk-1", "REQ-INFRA-disk-2"


@pytest.fixture
async def records(cluster: Cluster, database_url: str) -> AsyncIterator[RecordCare]:
    database = open_database(database_url)
    yield RecordCare(cluster.identity, cluster.store, database, start_requirement, timedelta())
    await cluster.close()  # who looks with it ends first: it would open another connection
    await database.close()


async def escalated(cluster: Cluster, reader: SdlcReader, number: str = FIRST) -> None:
    """The disk is full, and a P0 asks a human."""
    cluster.host_care.alerts = [DISK]
    await cluster.scheduled_check()
    await until_state(reader, number, RequirementState.BLOCKED)


async def until_state(reader: SdlcReader, number: str, state: RequirementState) -> None:
    async def is_there() -> bool:
        return (await reader.states([number])).get(number) is state

    await until(is_there, f"{number} is {state}")


async def until_nothing_stands(cluster: Cluster) -> None:
    async def is_idle() -> bool:
        return await cluster.sasha_status() == SashaStatus()

    await until(is_idle, "nothing is treated, nothing is escalated")


async def test_terminated_one_is_closed_and_its_trouble_forgotten_when_it_is_over(
    cluster: Cluster, records: RecordCare, sdlc_reader: SdlcReader
) -> None:
    await cluster.open(part=records)
    await escalated(cluster, sdlc_reader)
    await cluster.handle(FIRST).terminate()
    cluster.host_care.alerts = []
    await cluster.scheduled_check()

    await until_state(sdlc_reader, FIRST, RequirementState.CANCELLED)
    await until_nothing_stands(cluster)


async def test_trouble_is_treated_anew_whose_requirement_was_terminated(
    cluster: Cluster, records: RecordCare, sdlc_reader: SdlcReader
) -> None:
    await cluster.open(part=records)
    await escalated(cluster, sdlc_reader)
    await cluster.handle(FIRST).terminate()
    await cluster.scheduled_check()

    await until_state(sdlc_reader, FIRST, RequirementState.CANCELLED)
    await until_state(sdlc_reader, SECOND, RequirementState.BLOCKED)
    await until_suspended(cluster, SECOND)


async def test_trouble_is_treated_anew_whose_requirement_was_terminated_before_it_had_a_row(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    cluster.cluster_care.alerts = [DATABASE]
    await cluster.scheduled_check()
    await until_suspended(cluster, "REQ-INFRA-database-1")
    await cluster.handle("REQ-INFRA-database-1").terminate()

    await until_suspended(cluster, "REQ-INFRA-database-2")
    cluster.cluster_care.alerts = []
    found = await recorded_incidents(sdlc_reader, 2)
    assert {incident.requirement for incident in found} == {
        "REQ-INFRA-database-1",
        "REQ-INFRA-database-2",
    }


async def test_number_of_a_row_is_not_given_again_when_temporal_has_forgotten_it(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    await end_one(cluster, FIRST)
    await escalated(cluster, sdlc_reader, SECOND)

    (incident,) = await recorded_incidents(sdlc_reader)
    assert incident.requirement == SECOND


@pytest.fixture
def brief(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short histories, from before the cluster is there until its histories are replayed."""
    monkeypatch.setattr(continuing, "EVENTS", 60)


async def test_one_whose_number_turns_out_to_be_taken_is_not_remembered(
    brief: None, cluster: Cluster
) -> None:
    """She had no database to ask, and has gone on as new since."""
    await cluster.open()
    await end_one(cluster, "REQ-INFRA-database-1")
    cluster.cluster_care.alerts = [DATABASE]
    await cluster.scheduled_check()
    await until_suspended(cluster, "REQ-INFRA-database-1")
    await renew(cluster)
    cluster.cluster_care.alerts = []

    await until_nothing_stands(cluster)


async def abort(cluster: Cluster) -> None:
    abort = DecisionRequest(Answer.ABORT, "ada", "")
    await cluster.handle(FIRST).execute_update(RequirementWorkflow.decide, abort)


async def cancel(cluster: Cluster) -> None:
    await cluster.handle(FIRST).cancel()


@pytest.mark.parametrize("give_up", [abort, cancel])
async def test_trouble_that_was_given_up_is_left_alone_for_the_time_that_was_offered(
    brief: None,
    cluster: Cluster,
    sdlc_reader: SdlcReader,
    give_up: Callable[[Cluster], Awaitable[None]],
) -> None:
    await cluster.open()
    await escalated(cluster, sdlc_reader)
    question = (await sdlc_reader.requirement(FIRST)).escalation
    assert question
    assert question.asks[0].reason.endswith(
        "`abort` lets all else continue and has Sasha leave it alone for 1 h."
    )
    await give_up(cluster)
    await until_nothing_stands(cluster)
    await renew(cluster)
    looks = cluster.host_care.looks

    while cluster.host_care.looks <= looks + 1:  # a look of the next run was heeded
        await is_looked_after(cluster)
    await until_nothing_stands(cluster)
    assert len(await recorded_incidents(sdlc_reader)) == 1


async def renew(cluster: Cluster) -> None:
    """Have Sasha look until she continues as new."""
    runs = len(await cluster.chain(cluster.installation.sasha))
    while len(await cluster.chain(cluster.installation.sasha)) == runs:
        await is_looked_after(cluster)


async def end_one(cluster: Cluster, number: str) -> None:
    """A row of old, whose workflow Temporal does not know any more."""
    order = RequirementOrder(number, "Old", Priority.P0, PLAN, sequential=False, heartbeat=None)
    await cluster.store.accept(order, "")
    ref = RequirementRef(number, "a-run-of-old")
    await cluster.store.close_requirement(Closing(ref, RequirementState.CANCELLED, "Cancelled."))


async def until_suspended(cluster: Cluster, number: str) -> None:
    async def stands() -> bool:
        status = await cluster.sasha_status()
        return bool(status and status.escalated == (number,))

    await until(stands, f"{number} stands for it")
