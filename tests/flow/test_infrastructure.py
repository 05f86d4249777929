"""A P0 that stands for a component: however its workflow ends, nobody is held by it for ever."""

from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest

from adapters.care.records import RecordCare
from adapters.sdlc.database import open_database
from adapters.sdlc.reader import SdlcReader
from cli.hints import sasha_standing
from pipeline.infrastructure import PLAN
from pipeline.model import (
    Answer,
    Closing,
    DecisionRequest,
    Priority,
    RequirementOrder,
    RequirementRef,
    RequirementState,
    SashaStanding,
    Symptom,
    SymptomKind,
)
from tests.house import House, recorded_incidents, until
from workflows import continuing
from workflows.requirement import RequirementWorkflow
from workflows.starting import start_requirement

pytestmark = pytest.mark.usefixtures("hasty")

DISK = Symptom(SymptomKind.DISK_LOW, "disk", "here", "1 MiB is free.")
DATABASE = Symptom(SymptomKind.DATABASE_DOWN, "database", detail="No answer.")
FIRST, SECOND = "REQ-INFRA-disk-1", "REQ-INFRA-disk-2"


@pytest.fixture
async def records(house: House, database_url: str) -> AsyncIterator[RecordCare]:
    database = open_database(database_url)
    yield RecordCare(house.identity, house.store, database, start_requirement, timedelta())
    await database.close()


async def escalated(house: House, reader: SdlcReader, number: str = FIRST) -> None:
    """The disk is full, and a P0 asks a human."""
    house.host_care.symptoms = [DISK]
    await house.patrol()
    await until_state(reader, number, RequirementState.BLOCKED)


async def until_state(reader: SdlcReader, number: str, state: RequirementState) -> None:
    async def is_there() -> bool:
        return (await reader.states([number])).get(number) is state

    await until(is_there, f"{number} is {state}")


async def until_nothing_stands(house: House) -> None:
    async def is_idle() -> bool:
        return await sasha_standing(house._client, house.installation) == SashaStanding()

    await until(is_idle, "nothing is treated, nothing is escalated")


async def test_terminated_one_is_closed_and_its_trouble_forgotten_when_it_is_over(
    house: House, records: RecordCare, sdlc_reader: SdlcReader
) -> None:
    await house.open(part=records)
    await escalated(house, sdlc_reader)
    await house.handle(FIRST).terminate()
    house.host_care.symptoms = []
    await house.patrol()

    await until_state(sdlc_reader, FIRST, RequirementState.CANCELLED)
    await until_nothing_stands(house)


async def test_trouble_is_treated_anew_whose_requirement_was_terminated(
    house: House, records: RecordCare, sdlc_reader: SdlcReader
) -> None:
    await house.open(part=records)
    await escalated(house, sdlc_reader)
    await house.handle(FIRST).terminate()
    await house.patrol()

    await until_state(sdlc_reader, FIRST, RequirementState.CANCELLED)
    await until_state(sdlc_reader, SECOND, RequirementState.BLOCKED)
    assert (await sasha_standing(house._client, house.installation)).escalated == (SECOND,)


async def test_trouble_is_treated_anew_whose_requirement_was_terminated_before_it_had_a_row(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    house.cluster_care.symptoms = [DATABASE]
    await house.patrol()
    await until_standing(house, "REQ-INFRA-database-1")
    await house.handle("REQ-INFRA-database-1").terminate()

    await until_standing(house, "REQ-INFRA-database-2")
    house.cluster_care.symptoms = []
    found = await recorded_incidents(sdlc_reader, 2)
    assert {incident.requirement for incident in found} == {
        "REQ-INFRA-database-1",
        "REQ-INFRA-database-2",
    }


async def test_number_of_a_row_is_not_given_again_when_temporal_has_forgotten_it(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    await end_one(house, FIRST)
    await escalated(house, sdlc_reader, SECOND)

    (incident,) = await recorded_incidents(sdlc_reader)
    assert incident.requirement == SECOND


@pytest.fixture
def brief(hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short histories, from before the house is there until its histories are replayed."""
    monkeypatch.setattr(continuing, "EVENTS", 60)


async def test_one_whose_number_turns_out_to_be_taken_is_not_remembered(
    brief: None, house: House
) -> None:
    """She had no database to ask, and has gone on as new since."""
    await house.open()
    await end_one(house, "REQ-INFRA-database-1")
    house.cluster_care.symptoms = [DATABASE]
    await house.patrol()
    await until_standing(house, "REQ-INFRA-database-1")
    await renew(house)
    house.cluster_care.symptoms = []

    await until_nothing_stands(house)


async def abort(house: House) -> None:
    abort = DecisionRequest(Answer.ABORT, "ada", "")
    await house.handle(FIRST).execute_update(RequirementWorkflow.decide, abort)


async def cancel(house: House) -> None:
    await house.handle(FIRST).cancel()


@pytest.mark.parametrize("give_up", [abort, cancel])
async def test_trouble_that_was_given_up_is_left_alone_for_the_time_that_was_offered(
    brief: None,
    house: House,
    sdlc_reader: SdlcReader,
    give_up: Callable[[House], Awaitable[None]],
) -> None:
    await house.open()
    await escalated(house, sdlc_reader)
    question = (await sdlc_reader.requirement(FIRST)).escalation
    assert question
    assert question.asks[0].reason.endswith(
        "`abort` lets all else go on and has Sasha leave it alone for 1 h."
    )
    await give_up(house)
    await until_nothing_stands(house)
    await renew(house)
    looks = house.host_care.looks

    async def has_looked_on() -> bool:
        await house.patrol()
        return house.host_care.looks > looks + 1

    await until(has_looked_on, "a look of the next run was heeded")
    assert await sasha_standing(house._client, house.installation) == SashaStanding()
    assert len(await sdlc_reader.incidents()) == 1


async def renew(house: House) -> None:
    runs = len(await house.chain(house.installation.sasha))

    async def is_renewed() -> bool:
        await house.patrol()
        return len(await house.chain(house.installation.sasha)) > runs

    await until(is_renewed, "Sasha goes on as new")


async def end_one(house: House, number: str) -> None:
    """A row of old, whose workflow Temporal does not know any more."""
    order = RequirementOrder(number, "Old", Priority.P0, PLAN, sequential=False, heartbeat=None)
    await house.store.accept(order, "")
    ref = RequirementRef(number, "a-run-of-old")
    await house.store.close_requirement(Closing(ref, RequirementState.CANCELLED, "Cancelled."))


async def until_standing(house: House, number: str) -> None:
    async def stands() -> bool:
        return (await sasha_standing(house._client, house.installation)).escalated == (number,)

    await until(stands, f"{number} stands for it")
