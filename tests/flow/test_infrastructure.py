"""A P0 that stands for a component: however its workflow ends, nobody is held by it for ever."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from adapters.house_care import RecordCare
from adapters.sdlc.database import open_database
from adapters.sdlc_reader import SdlcReader
from cli.sasha_standing import sasha_standing
from pipeline.model import RequirementState, SashaStanding, Symptom, SymptomKind
from tests.house import House, until
from workflows.starting import start_requirement

pytestmark = pytest.mark.usefixtures("hasty")

DISK = Symptom(SymptomKind.DISK_LOW, "disk", "here", "1 MiB is free.")
FIRST, SECOND = "REQ-INFRA-disk-1", "REQ-INFRA-disk-2"


@pytest.fixture
async def records(house: House, database_url: str) -> AsyncIterator[RecordCare]:
    database = open_database(database_url)
    yield RecordCare(house._client, house.store, database, start_requirement, timedelta())
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
        return await sasha_standing(house._client) == SashaStanding()

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
    assert (await sasha_standing(house._client)).escalated == (SECOND,)
