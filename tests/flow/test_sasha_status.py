"""Sasha tells what she remediates and who waits for it, while no row can say so."""

from pipeline.model import Alert, AlertKind, SashaStatus
from tests.cluster import Cluster, until
from tests.fakes import Script
from tests.orchestra_plans import SOLO

NATS = Alert(AlertKind.NATS_DOWN, "nats", detail="No answer.")


async def test_status_names_the_remediation_its_attempts_and_who_waits(cluster: Cluster) -> None:
    await cluster.open({"Backend Implementation": [Script(minutes=1)]})
    cluster.cluster_care.alerts = [NATS]
    cluster.cluster_care.cures = {}
    handle = await cluster.start(SOLO)
    seen: list[SashaStatus] = []

    async def is_remediating() -> bool:
        if cluster.cluster_care.acts and (status := await cluster.sasha_status()):
            seen.append(status)
        return bool(seen and seen[-1].remediations and seen[-1].remediations[0].actions)

    await until(is_remediating, "she acts")

    (remediation,) = seen[-1].remediations
    assert (remediation.place, remediation.alert.key) == ("", NATS.key)
    assert remediation.actions == ("act 1",)
    (waiting,) = seen[-1].waiting
    assert (waiting.dependency, waiting.callers) == ("NATS", (cluster.number,))

    cluster.cluster_care.cures = {NATS.kind: 1}
    cluster.cluster_care.alerts = []
    await handle.result()

    async def is_idle() -> bool:
        return await cluster.sasha_status() == SashaStatus()

    await until(is_idle, "nothing is remediated")
