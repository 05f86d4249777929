"""Incidents of the infrastructure, and the P0 requirements that stand for unrepaired ones."""

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.failures import block
from adapters.sdlc.requirements import Acceptance, accept, open_requirement
from adapters.sdlc.tables import IncidentRow, RequirementRow
from pipeline.failures import aggregate
from pipeline.infrastructure import (
    PLAN,
    description,
    last_nth,
    prefix_of,
    report,
    requirement_order,
)
from pipeline.model import SASHA, Incident, InfrastructureOpening, Opening, OpeningRequest
from pipeline.runbook import RUNBOOK


async def record_incident(connection: AsyncConnection, incident: Incident) -> None:
    """The row of an incident that is over for Sasha; a repeat does nothing."""
    alert = incident.alert
    values = {
        "incident_id": incident.incident_id,
        "place": incident.place,
        "kind": alert.kind,
        "component": alert.component,
        "subject": alert.subject,
        "detail": alert.detail,
        "diagnosis": RUNBOOK[alert.kind].diagnosis,
        "actions": list(incident.actions),
        "end": incident.end,
        "requirement": incident.requirement,
        "began_at": incident.began_at,
        "ended_at": incident.ended_at,
    }
    await connection.execute(insert(IncidentRow).values(**values).on_conflict_do_nothing())


async def last_infrastructure(connection: AsyncConnection, component: str) -> int:
    """The highest n of the component's P0s, ended or not; 0 if there was none."""
    mine = RequirementRow.number_folded.startswith(prefix_of(component).lower(), autoescape=True)
    return last_nth((await connection.execute(select(RequirementRow.number).where(mine))).scalars())


async def open_infrastructure(connection: AsyncConnection, opening: InfrastructureOpening) -> None:
    """Accepted, open and BLOCKED at once, with its question; a repeat does nothing.

    Raises: AlreadyStarted if the number is taken.
    """
    ref, order = opening.ref, opening.order
    query = select(RequirementRow.workflow_run).where(RequirementRow.number == ref.number)
    if (await connection.execute(query)).scalar() == ref.workflow_run:
        return
    acceptance = Acceptance(requirement_order(order), description(order), who=SASHA)
    await accept(connection, [acceptance])
    request = OpeningRequest(ref, PLAN, sequential=False)
    await open_requirement(connection, request, Opening(order.place, None, "", parallel=True))
    collection = report(order, ref)
    await block(connection, collection, aggregate(collection))
