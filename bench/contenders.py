"""The three contenders: each takes a number of requirements at once to their end."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Protocol

from temporalio.client import Client
from temporalio.common import (
    Priority,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)

from adapters.installation import establish
from adapters.sdlc.requirements import Acceptance
from adapters.sdlc.store import PostgresSdlcStore
from adapters.temporal.client import known_search_attributes
from bench.bare import QUEUE, BareOrder, BareWorkflow
from bench.shape import MINUTE_SECONDS, STEPS, scaled
from pipeline.installation import Queues
from pipeline.model import Pipeline, RequirementOrder, RequirementState
from pipeline.model import Priority as RequirementPriority
from pipeline.plan_file import read_pipeline
from settings import HERE
from workflows.requirement import RequirementWorkflow

HEARTBEAT = timedelta(seconds=3)
"""The default of AGOG_HEARTBEAT_SECONDS."""


class NotDelivered(Exception):
    """A requirement ended otherwise: the benchmark's figures would mean nothing."""


class Contender(Protocol):
    """Something that takes requirements through the standard pipeline."""

    @property
    def name(self) -> str:
        """What the samples call it."""

    async def run(self, numbers: Sequence[str], *, is_working: bool) -> None:
        """Start all at once and wait for all results; stages take no time unless `is_working`.

        Raises: NotDelivered.
        """


class Plain:
    """Plain asyncio in this process."""

    name = "asyncio"

    async def run(self, numbers: Sequence[str], *, is_working: bool) -> None:
        """Run all in this process."""
        minute_seconds = MINUTE_SECONDS if is_working else 0.0
        await asyncio.gather(*(_run_plainly(minute_seconds) for _ in numbers))


async def _run_plainly(minute_seconds: float) -> None:
    """The groups of one requirement, one after the other."""
    for group in STEPS:
        sleeps = (asyncio.sleep(seconds) for _, seconds in scaled(group, minute_seconds))
        await asyncio.gather(*sleeps)


@dataclass(frozen=True)
class Bare:
    """The hand-written workflow."""

    client: Client
    name: str = "bare"

    async def run(self, numbers: Sequence[str], *, is_working: bool) -> None:
        """Start and await one workflow each."""
        minute_seconds = MINUTE_SECONDS if is_working else 0.0
        await asyncio.gather(*(self._run_one(number, minute_seconds) for number in numbers))

    async def _run_one(self, number: str, minute_seconds: float) -> None:
        order = BareOrder(number, minute_seconds)
        state = await self.client.execute_workflow(
            BareWorkflow.run, order, id=number, task_queue=QUEUE
        )
        _check(number, state)


class Ours:
    """Our application, started as the command line starts a backlog: rows first, then workflows."""

    name = "ours"

    def __init__(
        self,
        client: Client,
        queues: Queues,
        store: PostgresSdlcStore,
        search_attributes: tuple[str, ...],
    ) -> None:
        """Take connections; the store is the caller's to close."""
        self._client = client
        self._queues = queues
        self._store = store
        self._search_attributes = search_attributes
        self._plan = standard_pipeline()

    @classmethod
    async def connect(cls, client: Client, store: PostgresSdlcStore) -> "Ours":
        """Ask the servers for what a start must know."""
        identity = await establish(client, store.database)
        queues = identity.installation.queues
        return cls(client, queues, store, await known_search_attributes(client))

    async def run(self, numbers: Sequence[str], *, is_working: bool) -> None:
        """Accept all, then start and await one workflow each."""
        plan = self._plan if is_working else _without_work(self._plan)
        orders = [self._order(number, plan) for number in numbers]
        await self._store.accept_all([Acceptance(order, "A benchmark.") for order in orders])
        await asyncio.gather(*(self._run_one(order) for order in orders))

    def _order(self, number: str, plan: Pipeline) -> RequirementOrder:
        return RequirementOrder(
            number=number,
            title=f"Measure {number}",
            priority=RequirementPriority.P2,
            pipeline=plan,
            sequential=False,
            heartbeat=HEARTBEAT,
            search_attributes=self._search_attributes,
        )

    async def _run_one(self, order: RequirementOrder) -> None:
        report = await self._client.execute_workflow(
            RequirementWorkflow.run,
            order,
            id=order.number,
            task_queue=self._queues.central,
            id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
            priority=Priority(priority_key=order.priority.rank + 1),
            static_summary=order.title,
            search_attributes=_attributes(order),
        )
        _check(order.number, report.state)


def standard_pipeline() -> Pipeline:
    """The shipped standard pipeline; no flag is raised, so it runs without specialists."""
    path = HERE / "pipelines" / "standard.toml"
    return read_pipeline(path.read_text(), str(path))


def _without_work(plan: Pipeline) -> Pipeline:
    return replace(plan, stages=tuple(replace(stage, minutes=0.0) for stage in plan.stages))


def _attributes(order: RequirementOrder) -> TypedSearchAttributes:
    values = {"ReqNumber": order.number, "Priority": str(order.priority)}
    return TypedSearchAttributes(
        [
            SearchAttributePair(SearchAttributeKey.for_keyword(name), value)
            for name, value in values.items()
            if name in order.search_attributes
        ]
    )


def _check(number: str, state: str) -> None:
    if state != RequirementState.DELIVERED:
        raise NotDelivered(f"{number} ended {state}.")
