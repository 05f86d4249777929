"""Sasha on her rounds: what she finds she treats once, writes down, and does not forget."""

from dataclasses import replace
from datetime import timedelta

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.temporal.messages import TemporalSasha
from cli.hints import sasha_standing
from pipeline.model import IncidentEnd, RequirementState, SashaCall, Symptom, SymptomKind
from pipeline.remedies import REMEDIES
from tests.house import House, recorded_incidents, until
from workflows import options

pytestmark = pytest.mark.usefixtures("hasty")

ORPHAN = Symptom(SymptomKind.ORPHAN, "orphan", "worktree REQ-1", "Nobody owns it.")
LOADED = Symptom(SymptomKind.HOST_OVERLOADED, "host", "here", "Load 9 per processor.")
NATS = Symptom(SymptomKind.NATS_DOWN, "nats", detail="No answer.")
DISK = Symptom(SymptomKind.DISK_LOW, "disk", "here", "1 MiB is free.")


async def looked(house: House, times: int) -> None:
    async def has_looked() -> bool:
        return house.host_care.looks >= times

    await until(has_looked, f"{times} looks at the host")


async def test_what_is_found_by_a_check_is_treated_and_written_down(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    house.host_care.symptoms = [ORPHAN]
    house.host_care.cures = {ORPHAN.kind: 2}
    await house.patrol()
    (incident,) = await recorded_incidents(sdlc_reader, 1)

    assert (incident.place, incident.kind, incident.subject) == (
        house.host,
        ORPHAN.kind,
        ORPHAN.subject,
    )
    assert (incident.end, incident.actions) == (IncidentEnd.REPAIRED, ("act 1", "act 2"))
    assert incident.diagnosis == REMEDIES[ORPHAN.kind].diagnosis
    assert incident.ended_at > incident.began_at


async def test_what_cannot_be_repaired_and_holds_nobody_is_left_for_a_while(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    house.host_care.symptoms = [ORPHAN]
    await house.patrol()
    (incident,) = await recorded_incidents(sdlc_reader, 1)
    looks = house.host_care.looks
    await house.patrol()
    await looked(house, looks + 1)

    assert (incident.end, incident.requirement) == (IncidentEnd.LEFT, "")
    assert len(house.host_care.acts) == 3
    assert len(await sdlc_reader.incidents()) == 1
    assert await sdlc_reader.requirements(states=(RequirementState.BLOCKED,)) == ()


async def test_what_is_escalated_is_not_treated_again(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    house.host_care.symptoms = [DISK]
    await house.patrol()
    (incident,) = await recorded_incidents(sdlc_reader, 1)
    looks = house.host_care.looks
    await house.patrol()
    await looked(house, looks + 1)

    assert (incident.end, incident.requirement) == (IncidentEnd.ESCALATED, "REQ-INFRA-disk-1")
    assert len(house.host_care.acts) == 3
    assert len(await sdlc_reader.incidents()) == 1


async def test_what_no_worker_of_its_host_took_is_left_until_one_is_back(
    house: House, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_CARE_PATIENCE", timedelta(seconds=1))
    await house.open()
    house.host_care.symptoms = [DISK]
    await house.patrol()
    await looked(house, 1)
    await house.lose_host()
    (incident,) = await recorded_incidents(sdlc_reader, 1)
    assert (incident.end, incident.requirement) == (IncidentEnd.LEFT, "")
    assert incident.actions[-1].startswith("No worker there took it in time")

    await house.close()
    await house.open()
    house.host_care.symptoms = [DISK]
    house.host_care.cures = {DISK.kind: 1}
    await house.patrol()

    newest, _ = await recorded_incidents(sdlc_reader, 2)
    assert newest.end is IncidentEnd.REPAIRED


async def test_house_is_treated_while_a_look_at_a_lost_host_is_still_under_way(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_CARE_PATIENCE", timedelta(hours=1))
    await house.open()
    sasha = TemporalSasha(house._client, house.installation)
    await sasha.call(SashaCall("lost"))

    async def has_looked() -> bool:
        return house.cluster_care.looks > 0

    await until(has_looked, "a look at the house")
    house.cluster_care.symptoms = [NATS]
    house.cluster_care.cures = {NATS.kind: 1}
    await sasha.call(SashaCall(house.host, "NATS", "REQ-1"))

    async def is_repaired() -> bool:
        return (
            bool(house.cluster_care.acts)
            and not (await sasha_standing(house._client, house.installation)).waiting
        )

    await until(is_repaired, "the repair, and the end of the wait")


async def test_troubles_are_treated_side_by_side(house: House, sdlc_reader: SdlcReader) -> None:
    await house.open()
    house.host_care.symptoms = [ORPHAN, LOADED]
    house.host_care.cures = {ORPHAN.kind: 1, LOADED.kind: 1}
    await house.patrol()
    found = await recorded_incidents(sdlc_reader, 2)

    assert {incident.kind for incident in found} == {ORPHAN.kind, LOADED.kind}
    first, second = sorted(found, key=lambda incident: incident.began_at)
    assert second.began_at < first.ended_at


async def test_second_component_gets_a_number_of_its_own(
    house: House, sdlc_reader: SdlcReader
) -> None:
    await house.open()
    house.host_care.symptoms = [DISK, replace(DISK, subject="there")]
    await house.patrol()
    found = await recorded_incidents(sdlc_reader, 2)

    assert {incident.requirement for incident in found} == {"REQ-INFRA-disk-1", "REQ-INFRA-disk-2"}
