"""One host's Workers in virtual time, and what a test asks of them."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from temporalio.client import WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import WorkflowEnvironment
from temporalio.worker import Replayer
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from adapters.nats_events import NatsEventPublisher
from adapters.sdlc_store import PostgresSdlcStore
from pipeline.agents_file import AgentsFile, SimulatedAgent, SimulatedBuild
from pipeline.model import DeliveryReport, Pipeline, Priority, RequirementOrder
from pipeline.ports import HostPorts
from pipeline.team import TEAM
from tests.fakes import Script, ScriptedBuilds, ScriptedRuns
from tests.plans import shipped
from worker import build_workers
from workflows import options
from workflows.requirement import RequirementWorkflow

Handle = WorkflowHandle[RequirementWorkflow, DeliveryReport]
Scripts = Mapping[str, Sequence[Script]]
ExitCodes = Mapping[str, Sequence[int]]

AGENTS = AgentsFile(
    source="agents.toml",
    directory=Path(),
    agents={name: SimulatedAgent() for name in TEAM},
    builds={side: SimulatedBuild() for side in ("backend", "frontend")},
    minute_seconds=0.0,
)


class House:
    """Starts requirements, waits for them, replays what happened."""

    def __init__(
        self,
        env: WorkflowEnvironment,
        store: PostgresSdlcStore,
        publisher: NatsEventPublisher,
        host: str,
    ) -> None:
        self.env = env
        self.store = store
        self._publisher = publisher
        self._host = host
        self._stack = AsyncExitStack()
        self._handles: list[Handle] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Every flow test replays its history: a change of the flow must stay deterministic."""
        if kind is None:
            for handle in self._handles:
                await replay(handle)
        await self._stack.aclose()

    async def open(
        self, scripts: Scripts | None = None, builds: ExitCodes | None = None, parallel: bool = True
    ) -> None:
        """Start the Workers with these scripts."""
        self.runs = ScriptedRuns(self.env, scripts)
        self.builds = ScriptedBuilds(self.env, builds)
        ports = HostPorts(
            store=self.store,
            publisher=self._publisher,
            runs=self.runs,
            builds=self.builds,
            workspaces=None,
            agents=AGENTS,
            host=self._host,
            host_requirements=50,
            parallel=parallel,
        )
        sandbox = SandboxedWorkflowRunner(SandboxRestrictions.default)
        for worker in build_workers(self.env.client, ports, sandbox):
            await self._stack.enter_async_context(worker)

    async def close(self) -> None:
        """Stop the Workers; `open` may start others."""
        await self._stack.aclose()

    async def start(
        self, pipeline: str | Pipeline = "standard", *, number: str = "REQ-1", **changes: object
    ) -> Handle:
        """Start a requirement without waiting for it."""
        plan = shipped(pipeline) if isinstance(pipeline, str) else pipeline
        order = RequirementOrder(
            number=number,
            title="A title",
            priority=Priority.P2,
            pipeline=plan,
            sequential=bool(changes.get("sequential", False)),
            heartbeat=None,
        )
        await self.store.accept(order, "A description")
        handle = await self.env.client.start_workflow(
            RequirementWorkflow.run, order, id=number, task_queue=options.CENTRAL_QUEUE
        )
        self._handles.append(handle)
        return handle

    async def deliver(self, pipeline: str | Pipeline = "standard", **changes: object) -> timedelta:
        """Run a requirement to its delivery; returns the virtual time that it took."""
        handle = await self.start(pipeline, **changes)  # type: ignore[arg-type] # names its own
        report = await handle.result()
        assert report.state == "DELIVERED", report
        execution = await handle.describe()
        assert execution.close_time
        return execution.close_time - execution.start_time

    async def now(self) -> datetime:
        return await self.env.get_current_time()


async def replay(handle: Handle) -> None:
    history = await handle.fetch_history()
    replayer = Replayer(workflows=[RequirementWorkflow], data_converter=pydantic_data_converter)
    await replayer.replay_workflow(history)
