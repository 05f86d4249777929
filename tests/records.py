"""Open rows beside a real Temporal, in a namespace of their own."""

from dataclasses import dataclass, replace

from sqlalchemy import update
from temporalio import workflow
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError

from adapters.care.records import RecordCare
from adapters.installation import Identity
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.tables import RequirementRow
from adapters.temporal.workflows import running_workflows, workflow_status
from pipeline.installation import Queues
from pipeline.model import (
    Alert,
    AlertKind,
    DeliveryReport,
    Head,
    Opening,
    OpeningRequest,
    RequirementOrder,
    RequirementRef,
    RequirementState,
)
from tests.eventually import eventually_async
from tests.sdlc_factory import PLAN, an_order
from workflows.starting import start_requirement

Handle = WorkflowHandle[object, object]


@workflow.defn(name="RequirementWorkflow")
class Scripted:
    """Ends as its title says."""

    @workflow.run
    async def run(self, order: RequirementOrder) -> DeliveryReport:
        if order.title == "fail":
            raise ApplicationError("the disk is full", non_retryable=True)
        if order.title == "renew":
            workflow.continue_as_new(replace(order, title="wait"))
        if order.title == "wait":
            await workflow.wait_condition(lambda: False)
        return DeliveryReport(order.number, RequirementState.DELIVERED, "Delivered.", "c0ffee")


@dataclass
class Records:
    """A database, a Temporal namespace and who compares them, without a time of grace."""

    identity: Identity
    store: PostgresSdlcStore
    reader: SdlcReader
    care: RecordCare

    @property
    def temporal(self) -> Client:
        return self.identity.client

    @property
    def queues(self) -> Queues:
        return self.identity.installation.queues

    async def accept(self, number: str, title: str = "wait", **changes: object) -> RequirementOrder:
        order = replace(an_order(number, title), **changes)  # type: ignore[arg-type] # names its own
        await self.store.accept(order, "")
        return order

    async def start(self, number: str, title: str = "wait", *, opened: bool = True) -> Handle:
        """An accepted requirement whose workflow runs, taken by a host unless told otherwise."""
        order = await self.accept(number, title)
        await start_requirement(self.temporal, self.queues, order)
        handle = self.temporal.get_workflow_handle(number)
        if opened:
            await self.open(number, await self.first_run(number))
        return handle

    async def first_run(self, number: str) -> str:
        standing = await workflow_status(self.temporal, number)
        assert standing
        return standing.first_run

    async def open(self, number: str, workflow_run: str) -> None:
        opening = Opening("host-1", Head("base", 0), "main", True)
        ref = RequirementRef(number, workflow_run)
        await self.store.open_requirement(OpeningRequest(ref, PLAN, False), opening)

    async def revive(self, number: str) -> None:
        """Put the row back to where it was accepted."""
        values = {"state": "ACCEPTED", "ended_at": None}
        change = update(RequirementRow).where(RequirementRow.number == number).values(values)
        await self.care._database.write(lambda connection: connection.execute(change))

    async def found(self) -> list[str]:
        return [alert.subject for alert in await self.care.look()]

    async def act(self, number: str) -> str:
        return await self.care.act(Alert(AlertKind.ROW_WITHOUT_WORKFLOW, "record", number))

    async def ended(self, handle: Handle) -> None:
        """Wait until the index of Temporal knows about the end as well."""

        async def has_ended() -> bool:
            running = await running_workflows(self.temporal, self.queues, "RequirementWorkflow")
            return handle.id not in running

        await eventually_async(has_ended, f"the end of {handle.id}")
