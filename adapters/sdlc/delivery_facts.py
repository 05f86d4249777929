"""What the rows tell of a requirement that is about to be delivered, for its pull request."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc import queries
from adapters.sdlc.tables import RunRow
from pipeline.delivery_report import (
    DeliveryFacts,
    ReportedFailure,
    ReportedFix,
    ReportedGate,
    ReportedStage,
)
from pipeline.errors import UnknownRequirement


async def delivery_facts(connection: AsyncConnection, number: str) -> DeliveryFacts:
    """Stages in plan order; each gate's latest check; failures that were reported, with fixes.

    Raises: UnknownRequirement.
    """
    details = await queries.details(connection, number)
    if details is None:
        raise UnknownRequirement(f"There is no requirement {number}.")
    told = select(RunRow.stage, RunRow.summary).where(RunRow.number == number, RunRow.summary != "")
    rows = await queries.rows(connection, told.order_by(RunRow.opened_at))
    summaries = {row["stage"]: row["summary"] for row in rows}
    gates = {row["gate"]: row for row in details["gates"]}  # the latest is the last
    failures = await queries.rows(connection, queries.failures(number))
    return DeliveryFacts(
        number=number,
        title=details["title"],
        description=details["description"],
        stages=[
            ReportedStage(
                stage=row["stage"],
                agent=row["agent"],
                state=row["state"],
                summary=summaries.get(row["stage"], ""),
                attempts=row["attempt"],
                seconds=_seconds(row),
                cost=row["cost"],
            )
            for row in details["stages"]
        ],
        gates=[
            ReportedGate(row["gate"], row["commit"], row["verdict"] == "green", _seconds(row))
            for row in gates.values()
        ],
        failures=[
            ReportedFailure(row["stage"], row["gate"], row["kind"], row["error"])
            for row in failures
        ],
        fixes=[
            ReportedFix(
                number=row["number"],
                assignee=row["assignee"] or "",
                gate=row["gate"],
                state=row["state"],
                reason=row["reason"],
                cost=row["cost"],
            )
            for row in details["fixes"]
        ],
        cost=details["cost"],
    )


def _seconds(row: Mapping[str, Any]) -> float | None:
    began: datetime | None = row["started_at"]
    ended: datetime | None = row["ended_at"]
    return (ended - began).total_seconds() if began and ended else None
