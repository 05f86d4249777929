"""Sasha: she is called, looks, repairs what she finds, and notifies those who have waited."""

import asyncio
from datetime import datetime
from functools import partial

from temporalio import workflow
from temporalio.exceptions import ActivityError

with workflow.unsafe.imports_passed_through():
    from activities.sasha import SashaActivities
    from pipeline.infrastructure import RESPITE
    from pipeline.model import (
        Incident,
        IncidentEnd,
        RemediationStatus,
        SashaCall,
        SashaState,
        SashaStatus,
        Waiting,
        component_of,
        place_of,
    )
    from pipeline.runbook import Finding
    from workflows import options
    from workflows.continuing import is_long
    from workflows.escalation import Escalations
    from workflows.faults import Faults
    from workflows.remediation import Key, Remediation, look
    from workflows.view import SashaView

_ON_CURRENT = workflow.ContinueAsNewVersioningBehavior.AUTO_UPGRADE
CLUSTER = ""
"""The place of dependencies and records; every other place is a host."""


@workflow.defn
class SashaWorkflow:
    """Repairs the infrastructure by a runbook (`pipeline/runbook.py`).

    Workflow ID: `sasha-<installation>`; whoever is paused, and every worker, signals with a start.
    Waits for: calls, and repairs in progress. Continues as new when its history is long, or another
    build of the worker is current, and nothing is being repaired. Never ends, never touches project
    code, never resumes anybody without a look.
    """

    @workflow.init
    def __init__(self, state: SashaState) -> None:
        """Restore what is not over yet."""
        self._incidents = state.incidents
        self._faults = Faults()
        self._escalations = Escalations(state, self._hear_of_end, self._faults)
        self._calls: list[SashaCall] = []
        self._waiting: dict[str, dict[str, bool]] = {}
        for each in state.waiting:
            self._waiting[each.dependency] = dict.fromkeys(each.callers, True)
        self._wanted: dict[str, bool] = {}
        """Places to look at, once the look that is under way there has ended."""
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._remediations: dict[Key, tuple[Remediation, asyncio.Task[None]]] = {}
        self._left: dict[Key, datetime] = dict(state.left)
        """When the repair of a case is tried again that has failed, or was given up."""
        self._unrecorded = {each.incident_id: each for each in state.unrecorded}
        self._view = SashaView()

    @workflow.run
    async def run(self, state: SashaState) -> None:
        """Answer calls, for ever."""
        for incident in state.unrecorded:
            self._faults.detach(self._record(incident), "record an incident", _nothing)
        while True:
            await workflow.wait_condition(lambda: bool(self._calls) or self._may_continue())
            if not self._calls:
                workflow.continue_as_new(self._state(), initial_versioning_behavior=_ON_CURRENT)
            calls, self._calls = self._calls, []
            self._heed(calls)

    @workflow.signal
    def call(self, call: SashaCall) -> None:
        """Somebody is paused, a scheduled check is due, or a P0 for a component has ended."""
        self._calls.append(call)

    @workflow.query
    def status(self) -> SashaStatus:
        """What she repairs now, and who waits."""
        cases = tuple(
            RemediationStatus(
                remediation.place, remediation.alert, remediation.began, tuple(remediation.actions)
            )
            for remediation, _ in self._remediations.values()
        )
        return SashaStatus(
            cases, self._who_waits(), tuple(number for _, number in self._escalations.open)
        )

    def _may_continue(self) -> bool:
        changed = workflow.info().is_target_worker_deployment_version_changed()
        return (is_long() or changed) and not self._remediations and not self._looks

    def _state(self) -> SashaState:
        """What the next run must know. An unfinished record is written again, without harm."""
        return SashaState(
            self._incidents,
            self._escalations.open,
            self._who_waits(),
            tuple(self._unrecorded.values()),
            self._escalations.last,
            tuple(self._left.items()),
        )

    def _who_waits(self) -> tuple[Waiting, ...]:
        return tuple(Waiting(name, tuple(each)) for name, each in self._waiting.items() if each)

    # --- looks ------------------------------------------------------------------------------------

    def _heed(self, calls: list[SashaCall]) -> None:
        """Look at the cluster and at every host that was named, each for itself."""
        for call in calls:
            if component_of(call.dependency) and call.caller:
                self._waiting.setdefault(call.dependency, {})[call.caller] = True
        if all(map(self._is_known, calls)):
            return
        named = [place for call in calls for place in (call.host, place_of(call.dependency))]
        named += [place for call in calls if call.ended for place in self._forget(call)]
        for place in dict.fromkeys((CLUSTER, *named)):
            self._wanted[place] = True
            if place not in self._looks:
                what = f"look at {place or 'the cluster'}"
                looking = self._look_while_wanted(place)
                self._looks[place] = self._faults.detach(looking, what, _nothing)

    async def _look_while_wanted(self, place: str) -> None:
        """Look again after a call that came during a look: it may tell of something new."""
        try:
            while self._wanted.pop(place, False):
                await self._visit(place)
        finally:  # otherwise no call would ever cause another look
            del self._looks[place]

    async def _visit(self, place: str) -> None:
        """Repair what a look finds, and resume those whose dependency it does not find missing."""
        known, waiting = set(self._remediations), self._who_waits()
        found = await look(place)
        for finding in found or ():
            remediation = Remediation(place, finding.alert, finding.remedy, workflow.now())
            if remediation.key not in known:  # otherwise its repair may have ended during this look
                self._take_on(remediation)
        if found is not None:
            waiting = tuple(each for each in waiting if place_of(each.dependency) == place)
            await self._tell_well(waiting, found)

    def _is_known(self, call: SashaCall) -> bool:
        """Whether that dependency is being repaired already: its end causes the next look."""
        component, place = component_of(call.dependency), place_of(call.dependency)
        if call.ended or not component:
            return False
        remediated = any(
            remediation.alert.component == component and remediation.place == place
            for remediation, _ in self._remediations.values()
        )
        return remediated or self._escalations.concern(place, component)

    def _forget(self, call: SashaCall) -> list[str]:
        """Drop an ended P0; returns where to look at the trouble it stood for."""
        over = self._escalations.forget(call.ended)
        if call.given_up:
            self._left.update(dict.fromkeys(over, workflow.now() + RESPITE))
        return [place for place, *_ in over]

    def _take_on(self, remediation: Remediation) -> None:
        now = workflow.now()
        self._left = {key: until for key, until in self._left.items() if now < until}
        is_left = remediation.key in self._left or self._escalations.knows(remediation.key)
        if is_left or remediation.key in self._remediations:
            return
        what = f"repair {remediation.alert.kind} {remediation.alert.subject}".strip()
        seeing = self._faults.detach(
            self._see_to(remediation), what, partial(self._drop, remediation)
        )
        self._remediations[remediation.key] = remediation, seeing

    # --- one case ---------------------------------------------------------------------------------

    async def _see_to(self, remediation: Remediation) -> None:
        self._incidents += 1
        incident_id = f"{workflow.info().first_execution_run_id}/{self._incidents}"
        incident = await self._see_through(incident_id, remediation)
        self._unrecorded[incident_id] = incident
        await self._record(incident)

    def _drop(self, remediation: Remediation, _: Exception) -> None:
        """After an unforeseen error: the alert is remediated when it is found again."""
        if self._remediations.pop(remediation.key, None):
            self._view.forget(remediation.place, remediation.alert)
            self._left[remediation.key] = workflow.now() + remediation.remedy.again

    async def _see_through(self, incident_id: str, remediation: Remediation) -> Incident:
        """Repair it, escalate it or leave it; then a fresh look resumes those who wait."""
        self._view.tell(remediation.place, remediation.alert, "is being repaired")
        end = await remediation.remediate()
        escalates = end is IncidentEnd.ESCALATED
        requirement = await self._escalations.begin(remediation) if escalates else ""
        self._view.forget(remediation.place, remediation.alert)
        del self._remediations[remediation.key]
        if end in (IncidentEnd.PASSED, IncidentEnd.REPAIRED):
            self._calls.append(
                SashaCall(remediation.place)
            )  # a fresh look decides who may continue
        if end is IncidentEnd.LEFT:
            self._left[remediation.key] = workflow.now() + remediation.again
        return Incident(
            incident_id,
            remediation.place,
            remediation.alert,
            end,
            tuple(remediation.actions),
            remediation.began,
            workflow.now(),
            requirement,
        )

    async def _record(self, incident: Incident) -> None:
        """Write its row; while the database is down this workflow alone knows of it."""
        await workflow.execute_activity_method(
            SashaActivities.record_incident,
            incident,
            **options.lasting(f"{incident.alert.kind}: {incident.end}"),
        )
        del self._unrecorded[incident.incident_id]

    def _hear_of_end(self, number: str) -> None:
        self._calls.append(SashaCall(CLUSTER, ended=number))

    async def _tell_well(self, waiting: tuple[Waiting, ...], findings: tuple[Finding, ...]) -> None:
        """Resume those whose dependency a fresh look has found well."""
        ill = {finding.alert.component for finding in findings}
        for each in waiting:
            if component_of(each.dependency) not in ill:
                for caller in each.callers:
                    self._waiting[each.dependency].pop(caller, None)
                try:
                    await workflow.execute_activity_method(
                        SashaActivities.tell_repaired,
                        each,
                        **options.central(
                            f"{each.dependency} is back: {len(each.callers)} continue"
                        ),
                    )
                except ActivityError:  # the next look notifies them
                    self._waiting[each.dependency].update(dict.fromkeys(each.callers, True))
                    raise


def _nothing(_: Exception) -> None:
    """Nothing to substitute: a later call causes another look."""
