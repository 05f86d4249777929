"""Long outages: Sasha and the P0 continue as new, and nobody who waits is forgotten."""

import pytest

from adapters.sdlc.reader import SdlcReader
from pipeline.model import Alert, AlertKind, IncidentEnd, RequirementState, RetryRequest
from pipeline.plan_rules import DELIVER
from tests.cluster import Cluster, is_looked_after, recorded_incidents, until
from tests.orchestra_plans import SOLO
from workflows import continuing
from workflows.requirement import RequirementWorkflow

NATS = Alert(AlertKind.NATS_DOWN, "nats", detail="No answer.")


@pytest.fixture
def brief(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short histories, from before the cluster is there until its histories are replayed."""
    monkeypatch.setattr(continuing, "EVENTS", 60)


async def test_callers_of_an_escalated_outage_are_carried_over(
    brief: None, cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    cluster.cluster_care.alerts = [NATS]
    handle = await cluster.start(SOLO)
    number = "REQ-INFRA-nats-1"

    async def is_asked() -> bool:
        states = await sdlc_reader.states([number])
        return states.get(number) == RequirementState.BLOCKED

    await until(is_asked, "a human is asked")
    while len(await cluster.chain(cluster.installation.sasha)) == 1:
        await is_looked_after(cluster)
    cluster.cluster_care.alerts = []
    request = RetryRequest(DELIVER, "ada")
    await cluster.handle(number).execute_update(RequirementWorkflow.retry, request)

    assert (await handle.result()).state is RequirementState.DELIVERED
    (incident,) = await recorded_incidents(sdlc_reader)
    assert (incident.end, incident.requirement) == (IncidentEnd.ESCALATED, number)


async def test_a_p0_that_looks_for_days_continues_as_new_and_ends_as_one(
    brief: None, cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    cluster.cluster_care.alerts = [NATS]
    handle = await cluster.start(SOLO)
    number = "REQ-INFRA-nats-1"

    async def is_asked() -> bool:
        states = await sdlc_reader.states([number])
        return states.get(number) == RequirementState.BLOCKED

    async def is_renewed() -> bool:
        request = RetryRequest(DELIVER, "ada")
        await cluster.handle(number).execute_update(RequirementWorkflow.retry, request)
        return len(await cluster.chain(number)) > 1

    await until(is_asked, "a human is asked")
    await until(is_renewed, "the P0 continues as new")
    cluster.cluster_care.alerts = []
    await cluster.handle(number).execute_update(
        RequirementWorkflow.retry, RetryRequest(DELIVER, "ada")
    )

    assert (await handle.result()).state is RequirementState.DELIVERED
    view = await sdlc_reader.states([number])
    assert view == {number: RequirementState.DELIVERED}
    kinds = [event.type for event in await sdlc_reader.events(number)]
    assert kinds.count("workflow.escalated") == 1
