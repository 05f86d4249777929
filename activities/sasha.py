"""What Sasha does: she is called, looks, acts, records incidents, and notifies who has waited."""

import asyncio
import logging
from collections.abc import Awaitable
from functools import partial

from temporalio import activity

from activities.persistence import until_persisted
from pipeline.errors import DependencyUnavailable
from pipeline.infrastructure import is_infrastructure
from pipeline.model import (
    DEPENDENCIES,
    Alert,
    AlertKind,
    Closing,
    Incident,
    InfrastructureOpening,
    SashaCall,
    Waiting,
    Watch,
)
from pipeline.ports import HealthChecks, HostPorts
from pipeline.runbook import Finding, findings

log = logging.getLogger(__name__)

_DATABASE = DEPENDENCIES["SDLC database"]

_PAUSE_SECONDS = 2.0
_PAUSE_SHARE = 1 / 15
"""Of the time that an effect may take to show: the pause between two looks at a slow one."""

_HIDDEN_SECONDS = 60.0
"""How much longer an alert is watched that a greater trouble hides, which is repaired first."""


class SashaActivities:
    """Sasha's activities for the cluster; any worker runs them."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def call_sasha(self, call: SashaCall) -> None:
        """Call Sasha; a repeat does no harm."""
        await self._ports.sasha.call(call)

    @activity.defn
    async def look_at_cluster(self) -> tuple[Finding, ...]:
        """What is wrong with dependencies and records; lost signals of the P0 gate are sent again.

        A signal is lost if its sender was killed, or could not reach Temporal, after its commit.
        """
        found = await self._ports.cluster_care.look()
        if _DATABASE not in {alert.component for alert in found}:
            await _tried(self._notify_all(), "Nobody is notified at the gate")
        return findings(found)

    @activity.defn
    async def watch_cluster(self, watch: Watch) -> bool:
        """Whether the alert is gone in time; returns as soon as it is."""
        return await _is_over(self._ports.cluster_care, watch)

    @activity.defn
    async def act_on_cluster(self, alert: Alert) -> str:
        """Act once; what was done. Raises: PipelineError if it could not be done."""
        done = await self._ports.cluster_care.act(alert)
        if is_infrastructure(alert.subject):  # its workflow can no longer call her
            await self._ports.sasha.call(SashaCall("", ended=alert.subject))
        if (
            alert.kind is AlertKind.ROW_WITHOUT_WORKFLOW
        ):  # the row is closed: a later look makes up for what fails here
            await _tried(self._notify_all(), "Nobody is notified at the gate")
            await _tried(self._ports.publish(alert.subject), "Events wait")
        return done

    @activity.defn
    async def tell_repaired(self, waiting: Waiting) -> None:
        """Notify workflows that a dependency is back."""
        await self._ports.notifier.tell_repaired(waiting)

    @activity.defn
    async def record_incident(self, incident: Incident) -> None:
        """Write the row of an incident, as soon as there is a database."""
        await until_persisted(self._ports, partial(self._ports.store.record_incident, incident))

    @activity.defn
    async def last_infrastructure(self, component: str) -> int:
        """The highest n among rows of the component's P0s; 0 also while there is no database."""
        try:
            return await self._ports.store.last_infrastructure(component)
        except DependencyUnavailable:
            return 0

    @activity.defn
    async def open_infrastructure(self, opening: InfrastructureOpening) -> None:
        """Write the rows of a P0 for a component, as soon as there is a database."""
        await until_persisted(self._ports, partial(self._ports.store.open_infrastructure, opening))

    @activity.defn
    async def close_infrastructure(self, closing: Closing) -> None:
        """Close the row, and notify everybody who was paused by it."""
        store = self._ports.store
        await until_persisted(self._ports, partial(store.close_requirement, closing))
        await self._ports.notifier.notify(await until_persisted(self._ports, store.to_notify))

    async def _notify_all(self) -> None:
        await self._ports.notifier.notify(await self._ports.store.to_notify())
        await self._ports.notifier.pre_empt(await self._ports.store.to_pre_empt(missed=True))


class HostCareActivities:
    """Sasha's activities for a host; its own worker runs them."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def look_at_host(self) -> tuple[Finding, ...]:
        """What is wrong with this host and what runs on it."""
        return findings(await self._ports.host_care.look())

    @activity.defn
    async def watch_host(self, watch: Watch) -> bool:
        """Whether the alert is gone in time; returns as soon as it is."""
        return await _is_over(self._ports.host_care, watch)

    @activity.defn
    async def act_on_host(self, alert: Alert) -> str:
        """Act once; what was done. Raises: PipelineError if it could not be done."""
        return await self._ports.host_care.act(alert)


async def _tried(step: Awaitable[object], otherwise: str) -> None:
    """Try a step that must not fail its activity; a later look, or a worker, makes up for it."""
    try:
        await step
    except DependencyUnavailable as error:
        log.info("%s: %s", otherwise, error)


async def _is_over(health_checks: HealthChecks, watch: Watch) -> bool:
    """Look until it is over, or until time is up; without patience, look once."""
    patience = watch.patience.total_seconds()
    clock = asyncio.get_running_loop()
    began = clock.time()
    while not (over := await health_checks.is_over(watch.alert)):
        is_hidden = over is None and patience > 0
        if clock.time() - began >= patience + (_HIDDEN_SECONDS if is_hidden else 0):
            return False
        await asyncio.sleep(_pause(patience))
    return True


def _pause(patience: float) -> float:
    return max(_PAUSE_SECONDS, _PAUSE_SHARE * patience)
