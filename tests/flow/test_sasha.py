"""Sasha on her rounds: what she finds she treats once, writes down, and does not forget."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from adapters.sdlc.reader import SdlcReader
from adapters.temporal.messages import TemporalSasha
from pipeline.model import Alert, AlertKind, IncidentEnd, RequirementState, SashaCall
from pipeline.runbook import RUNBOOK
from tests.cluster import Cluster, recorded_incidents, until
from workflows import options

pytestmark = pytest.mark.usefixtures("hasty")

ORPHAN = Alert(AlertKind.ORPHAN, "orphan", "worktree REQ-1", "Nobody owns it.")
LOADED = Alert(AlertKind.HOST_OVERLOADED, "host", "here", "Load 9 per processor.")
NATS = Alert(AlertKind.NATS_DOWN, "nats", detail="No answer.")
DISK = Alert(AlertKind.DISK_LOW, "disk", "here", "1 MiB is free.")


async def looked(cluster: Cluster, times: int) -> None:
    async def has_looked() -> bool:
        return cluster.host_care.looks >= times

    await until(has_looked, f"{times} looks at the host")


async def test_what_is_found_by_a_check_is_treated_and_written_down(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    cluster.host_care.alerts = [ORPHAN]
    cluster.host_care.cures = {ORPHAN.kind: 2}
    await cluster.scheduled_check()
    (incident,) = await recorded_incidents(sdlc_reader, 1)

    assert (incident.place, incident.kind, incident.subject) == (
        cluster.host,
        ORPHAN.kind,
        ORPHAN.subject,
    )
    assert (incident.end, incident.actions) == (IncidentEnd.REPAIRED, ("act 1", "act 2"))
    assert incident.diagnosis == RUNBOOK[ORPHAN.kind].diagnosis
    assert incident.ended_at > incident.began_at


async def test_what_cannot_be_repaired_and_holds_nobody_is_left_for_a_while(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    cluster.host_care.alerts = [ORPHAN]
    await cluster.scheduled_check()
    (incident,) = await recorded_incidents(sdlc_reader, 1)
    looks = cluster.host_care.looks
    await cluster.scheduled_check()
    await looked(cluster, looks + 1)

    assert (incident.end, incident.requirement) == (IncidentEnd.LEFT, "")
    assert len(cluster.host_care.acts) == 3
    assert len(await sdlc_reader.incidents()) == 1
    assert await sdlc_reader.requirements(states=(RequirementState.BLOCKED,)) == ()


async def test_what_is_escalated_is_not_treated_again(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    cluster.host_care.alerts = [DISK]
    await cluster.scheduled_check()
    (incident,) = await recorded_incidents(sdlc_reader, 1)
    looks = cluster.host_care.looks
    await cluster.scheduled_check()
    await looked(cluster, looks + 1)

    assert (incident.end, incident.requirement) == (IncidentEnd.ESCALATED, "REQ-INFRA-disk-1")
    assert len(cluster.host_care.acts) == 3
    assert len(await sdlc_reader.incidents()) == 1


async def test_what_no_worker_of_its_host_took_is_left_until_one_is_back(
    cluster: Cluster, sdlc_reader: SdlcReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual, losing = options._CARE_PATIENCE, list[asyncio.Task[None]]()
    await cluster.open()
    cluster.host_care.alerts = [DISK]

    async def act(alert: Alert) -> str:
        """The worker ends with it: what follows finds none."""
        monkeypatch.setattr(options, "_CARE_PATIENCE", timedelta(seconds=1))
        losing.append(asyncio.create_task(cluster.lose_host()))
        await asyncio.Event().wait()
        return "It never comes to that."

    monkeypatch.setattr(cluster.host_care, "act", act)
    await cluster.scheduled_check()
    (incident,) = await recorded_incidents(sdlc_reader, 1)
    assert (incident.end, incident.requirement) == (IncidentEnd.LEFT, "")
    assert incident.actions[-1].startswith("No worker there took it in time")

    await asyncio.gather(*losing)
    monkeypatch.setattr(options, "_CARE_PATIENCE", usual)
    await cluster.close()
    await cluster.open()
    cluster.host_care.alerts = [DISK]
    cluster.host_care.cures = {DISK.kind: 1}
    await cluster.scheduled_check()

    newest, _ = await recorded_incidents(sdlc_reader, 2)
    assert newest.end is IncidentEnd.REPAIRED


async def test_cluster_is_treated_while_a_look_at_a_lost_host_is_still_under_way(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_CARE_PATIENCE", timedelta(hours=1))
    await cluster.open()
    sasha = TemporalSasha(cluster._client, cluster.installation)
    await sasha.call(SashaCall("lost"))

    async def has_looked() -> bool:
        return cluster.cluster_care.looks > 0

    await until(has_looked, "a look at the cluster")
    cluster.cluster_care.alerts = [NATS]
    cluster.cluster_care.cures = {NATS.kind: 1}
    await sasha.call(SashaCall(cluster.host, "NATS", "REQ-1"))

    async def is_repaired() -> bool:
        status = await cluster.sasha_status()
        return bool(cluster.cluster_care.acts and status and not status.waiting)

    await until(is_repaired, "the repair, and the end of the wait")


async def test_troubles_are_treated_side_by_side(cluster: Cluster, sdlc_reader: SdlcReader) -> None:
    await cluster.open()
    cluster.host_care.alerts = [ORPHAN, LOADED]
    cluster.host_care.cures = {ORPHAN.kind: 1, LOADED.kind: 1}
    await cluster.scheduled_check()
    found = await recorded_incidents(sdlc_reader, 2)

    assert {incident.kind for incident in found} == {ORPHAN.kind, LOADED.kind}
    first, second = sorted(found, key=lambda incident: incident.began_at)
    assert second.began_at < first.ended_at


async def test_second_component_gets_a_number_of_its_own(
    cluster: Cluster, sdlc_reader: SdlcReader
) -> None:
    await cluster.open()
    cluster.host_care.alerts = [DISK, replace(DISK, subject="there")]
    await cluster.scheduled_check()
    found = await recorded_incidents(sdlc_reader, 2)

    assert {incident.requirement for incident in found} == {"REQ-INFRA-disk-1", "REQ-INFRA-disk-2"}
