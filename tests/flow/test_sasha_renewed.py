"""Long outages: Sasha and the P0 continue as new, and nobody who waits is forgotten."""

import pytest

from adapters.sdlc.reader import SdlcReader
from pipeline.model import IncidentEnd, RequirementState, RetryRequest, Symptom, SymptomKind
from pipeline.plan_rules import DELIVER
from tests.house import House, until
from tests.orchestra_plans import SOLO
from workflows import continuing
from workflows.requirement import RequirementWorkflow

NATS = Symptom(SymptomKind.NATS_DOWN, "nats", detail="No answer.")


@pytest.fixture
def brief(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short histories, from before the house is there until its histories are replayed."""
    monkeypatch.setattr(continuing, "EVENTS", 60)


async def test_callers_of_an_escalated_outage_are_carried_over(
    brief: None, house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    house.cluster_care.symptoms = [NATS]
    handle = await house.start(SOLO)
    number = "REQ-INFRA-nats-1"

    async def is_asked() -> bool:
        states = await sdlc_reader.states([number])
        return states.get(number) == RequirementState.BLOCKED

    async def is_renewed() -> bool:
        await house.patrol()
        return len(await house.chain(house.installation.sasha)) > 1

    await until(is_asked, "a human is asked")
    await until(is_renewed, "Sasha goes on as new")
    house.cluster_care.symptoms = []
    request = RetryRequest(DELIVER, "ada")
    await house.handle(number).execute_update(RequirementWorkflow.retry, request)

    assert (await handle.result()).state is RequirementState.DELIVERED
    (incident,) = await sdlc_reader.incidents()
    assert (incident.end, incident.requirement) == (IncidentEnd.ESCALATED, number)


async def test_a_p0_that_looks_for_days_continues_as_new_and_ends_as_one(
    brief: None, house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    house.cluster_care.symptoms = [NATS]
    handle = await house.start(SOLO)
    number = "REQ-INFRA-nats-1"

    async def is_asked() -> bool:
        states = await sdlc_reader.states([number])
        return states.get(number) == RequirementState.BLOCKED

    async def is_renewed() -> bool:
        request = RetryRequest(DELIVER, "ada")
        await house.handle(number).execute_update(RequirementWorkflow.retry, request)
        return len(await house.chain(number)) > 1

    await until(is_asked, "a human is asked")
    await until(is_renewed, "the P0 continues as new")
    house.cluster_care.symptoms = []
    await house.handle(number).execute_update(
        RequirementWorkflow.retry, RetryRequest(DELIVER, "ada")
    )

    assert (await handle.result()).state is RequirementState.DELIVERED
    view = await sdlc_reader.states([number])
    assert view == {number: RequirementState.DELIVERED}
    kinds = [event.type for event in await sdlc_reader.events(number)]
    assert kinds.count("workflow.escalated") == 1
