"""Bare Temporal: one workflow and one activity, as one would write them by hand for this pipeline.

No database, no events, no run directories, no gates, no heartbeat: what durable execution alone
costs on the same server.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

with workflow.unsafe.imports_passed_through():
    from bench.shape import STEPS, scaled

QUEUE = "bare"
_SLOTS = 1_000  # as many as our own Worker of agents has


@dataclass(frozen=True)
class BareOrder:
    """Input of the workflow."""

    number: str
    minute_seconds: float


@dataclass(frozen=True)
class BareStep:
    """Input of the activity."""

    number: str
    name: str
    seconds: float


@dataclass(frozen=True)
class BareOutcome:
    """Result of the activity."""

    name: str
    passed: bool


@activity.defn
async def run_step(step: BareStep) -> BareOutcome:
    """Do the stage's work: nothing, or sleep."""
    if step.seconds:
        await asyncio.sleep(step.seconds)
    return BareOutcome(step.name, passed=True)


@workflow.defn
class BareWorkflow:
    """One requirement: groups one after another, the steps of a group at once."""

    @workflow.run
    async def run(self, order: BareOrder) -> str:
        """Run every group; returns what became of the requirement."""
        for group in STEPS:
            steps = (BareStep(order.number, *step) for step in scaled(group, order.minute_seconds))
            outcomes = await asyncio.gather(*(self._run_step(step) for step in steps))
            if not all(outcome.passed for outcome in outcomes):
                return "FAILED"
        return "DELIVERED"

    async def _run_step(self, step: BareStep) -> BareOutcome:
        return await workflow.execute_activity(
            run_step, step, start_to_close_timeout=timedelta(minutes=5), summary=step.name
        )


def bare_worker(client: Client) -> Worker:
    """Its Worker, with the same runner and slots as ours."""
    return Worker(
        client,
        task_queue=QUEUE,
        workflows=[BareWorkflow],
        activities=[run_step],
        workflow_runner=UnsandboxedWorkflowRunner(),
        max_concurrent_activities=_SLOTS,
    )
