"""One host's Workers with scripted agents and builds, and what a test asks of them."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, cast

from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowHistory,
    WorkflowUpdateFailedError,
)
from temporalio.service import RPCError
from temporalio.worker import Replayer, _workflow

from activities import persistence
from adapters.care.care import Remediator
from adapters.installation import Identity
from adapters.nats.events import NatsEventPublisher
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.requirements import Acceptance
from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.views import IncidentView
from adapters.temporal.client import DATA_CONVERTER
from adapters.temporal.messages import TemporalNotifier, TemporalSasha
from cli.hints import sasha_status
from pipeline.agents_file import AgentsFile, CommandAgent, SimulatedAgent, SimulatedBuild
from pipeline.errors import DependencyUnavailable
from pipeline.events import ESCALATION_PREFIX
from pipeline.installation import Installation
from pipeline.model import (
    RETRY_BOUND,
    Bounds,
    DeliveryReport,
    Pipeline,
    Priority,
    Reopened,
    RequirementOrder,
    RetryRequest,
    SashaCall,
    SashaStatus,
)
from pipeline.ports import EventPublisher, HostPorts, SdlcStore, Workspaces
from pipeline.team import TEAM
from tests.eventually import PATIENCE_SECONDS, eventually_async
from tests.fakes import (
    AlwaysReady,
    Breakable,
    Clock,
    PlainPrompts,
    Script,
    ScriptedBuilds,
    ScriptedCare,
    ScriptedRuns,
)
from tests.plans import shipped
from worker import WORKFLOW_RUNNER, WORKFLOWS, build_workers
from workflows.ending import report_of
from workflows.requirement import RequirementWorkflow
from workflows.starting import start_requirement

Handle = WorkflowHandle[RequirementWorkflow, DeliveryReport]
Scripts = Mapping[str, Sequence[Script]]
ExitCodes = Mapping[str, Sequence[int]]

# A replay has the patience of our workers (see worker.py), and so has whatever else a test starts.
create_workflow_worker = _workflow._WorkflowWorker.__init__


def _create_patient(self: _workflow._WorkflowWorker, **options: Any) -> None:
    create_workflow_worker(self, **options)
    self._deadlock_timeout_seconds = int(PATIENCE_SECONDS)


_workflow._WorkflowWorker.__init__ = _create_patient  # type: ignore[method-assign]

AGENTS = AgentsFile(
    source="agents.toml",
    directory=Path(),
    agents={name: SimulatedAgent() for name in TEAM},
    builds={side: SimulatedBuild() for side in ("backend", "frontend")},
    minute_seconds=0.0,
)

OF_ANY_TEAM = replace(
    AGENTS,
    builds={name: SimulatedBuild() for name in ("backend", "frontend", "orders", "mobile")},
    other=SimulatedAgent(),
)
"""Whoever a plan declares works, too."""

WITH_PROJECT = replace(AGENTS, agents={**AGENTS.agents, "cynthia": CommandAgent(("true",))})
"""A program among the agents: the project is needed, although a script answers for it."""


NO_REPAIR = Bounds(reds=1, depth=1, reviews=0)
"""Every failure asks a human at once."""

REPAIR = Bounds()
"""As pipelines are shipped."""


class Cluster:
    """Starts requirements, waits for them, replays what happened."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        store: PostgresSdlcStore,
        publisher: NatsEventPublisher,
        host: str,
        identity: Identity | None = None,
    ) -> None:
        """Without a proved identity it is an installation of its own, which nobody can prove."""
        self._client = client
        stranger = Installation(uuid.uuid4().hex)
        self.identity = identity or Identity(client, store.database, stranger)
        self.installation = self.identity.installation
        self._clock = clock
        self.store = store
        self._publisher = publisher
        self.host = host
        self.number = f"REQ-{uuid.uuid4().hex[:8]}"
        self._stack = AsyncExitStack()
        self._handles: list[Handle] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Every flow test replays its history: a change of the flow must stay deterministic."""
        try:
            for name in [*(handle.id for handle in self._handles), self.installation.sasha]:
                with suppress(RPCError):  # most have ended by themselves, and nobody called Sasha
                    for history in await self.family(name) if kind is None else ():
                        await replay(history)
                    await self._client.get_workflow_handle(name).terminate()
        finally:  # a worker that is left polls on, and the loop would wait for it for ever
            await self._stack.aclose()
            # What it still publishes would meet a connection that is closed.
            loop = asyncio.get_running_loop()
            publishing = [each for each in persistence._publishing if each.get_loop() is loop]
            await asyncio.gather(*publishing, return_exceptions=True)

    async def open(
        self,
        scripts: Scripts | None = None,
        builds: ExitCodes | None = None,
        parallel: bool = True,
        workspaces: Workspaces | None = None,
        part: Remediator | None = None,
        agents: AgentsFile | None = None,
        retry_bound: timedelta = RETRY_BOUND,
        build_id: str = "",
        room: int = 50,
    ) -> None:
        """Start the Workers with these scripts, and with a project if there are workspaces.

        That part of the cluster is really looked after.
        """
        self.runs = ScriptedRuns(self._clock, scripts)
        self.cluster_care, self.host_care = ScriptedCare(part), ScriptedCare()
        self.database = Breakable(self.store, "SDLC database", self.cluster_care)
        self.nats = Breakable(self._publisher, "NATS", self.cluster_care)
        self.builds = ScriptedBuilds(self._clock, builds)
        self.agents_file = agents or (WITH_PROJECT if workspaces else AGENTS)
        ports = HostPorts(
            store=cast(SdlcStore, self.database),
            publisher=cast(EventPublisher, self.nats),
            notifier=TemporalNotifier(self._client),
            sasha=TemporalSasha(self._client, self.installation),
            cluster_care=self.cluster_care,
            host_care=self.host_care,
            runs=self.runs,
            prompts=PlainPrompts(),
            builds=self.builds,
            workspaces=workspaces,
            readiness=AlwaysReady(),
            agents=lambda: self.agents_file,
            host=self.host,
            host_requirements=room,
            parallel=parallel,
            retry_bound=retry_bound,
        )
        self.ports = ports
        await self._serve(build_id)

    async def _serve(self, build_id: str) -> None:
        self.workers = build_workers(self._client, self.installation, self.ports, build_id)
        for worker in self.workers:
            await self._stack.enter_async_context(worker)

    async def lose_host(self) -> None:
        """Nobody takes what this host is asked at once, as elsewhere the cluster continues."""
        queue = self.installation.queues.host(self.host)
        await next(worker for worker in self.workers if worker.task_queue == queue).shutdown()

    async def family(self, workflow_id: str) -> list[WorkflowHistory]:
        """The histories of a workflow, of each run of it and of every workflow below.

        A run that has done nothing yet is left out: a replay would wait for its first task.
        """
        found = [each for each in await self.chain(workflow_id) if _has_begun(each)]
        for history in list(found):
            for event in history.events:
                started = event.child_workflow_execution_started_event_attributes
                if child := started.workflow_execution.workflow_id:
                    found += await self.family(child)
        return found

    async def chain(self, workflow_id: str) -> list[WorkflowHistory]:
        """The histories of a workflow's runs, the last one first."""
        run_id = ""
        found: list[WorkflowHistory] = []
        while not found or run_id:
            handle = self._client.get_workflow_handle(workflow_id, run_id=run_id or None)
            history = await handle.fetch_history()
            found.append(history)
            begun = history.events[0].workflow_execution_started_event_attributes
            run_id = begun.continued_execution_run_id
        return found

    async def close(self) -> None:
        """Stop the Workers; `open` may start others, or `open_again` the same."""
        await self._stack.aclose()

    async def open_again(self) -> None:
        """Start Workers that find agents and builds as those before have left them."""
        await self._serve("")

    async def start(
        self,
        pipeline: str | Pipeline = "standard",
        *,
        number: str = "",
        bounds: Bounds = NO_REPAIR,
        **changes: object,
    ) -> Handle:
        """Start a requirement without waiting for it; unless told otherwise, nobody repairs it."""
        plan = shipped(pipeline) if isinstance(pipeline, str) else pipeline
        order = RequirementOrder(
            number=number or self.number,
            title="A title",
            priority=Priority(str(changes.get("priority", Priority.P2))),
            pipeline=replace(plan, bounds=bounds),
            sequential=bool(changes.get("sequential", False)),
            pre_empts=bool(changes.get("pre_empts", False)),
            heartbeat=changes.get("heartbeat", self._clock.heartbeat),  # type: ignore[arg-type]
            search_attributes=changes.get("search_attributes", ()),  # type: ignore[arg-type] # too
        )
        blockers: tuple[str, ...] = changes.get("blocked_by", ())  # type: ignore[assignment] # numbers
        await self.store.accept_all([Acceptance(order, "A description", blocked_by=blockers)])
        # this very handle: on the time-skipping server no other one lets the time skip
        handle = await start_requirement(self._client, self.installation.queues, order)
        self._handles.append(handle)
        return handle

    async def scheduled_check(self) -> None:
        """Have Sasha look at the cluster and the host."""
        sasha = TemporalSasha(self._client, self.installation)
        await sasha.call(SashaCall(self.host))

    async def is_idle(self) -> bool:
        """Whether Sasha waits for calls; her records may wait for the database."""
        handle = self._client.get_workflow_handle(self.installation.sasha)
        pending = (await handle.describe()).raw_description
        steps = {each.activity_type.name for each in pending.pending_activities}
        return not (steps - {"record_incident"} or pending.HasField("pending_workflow_task"))

    async def sasha_status(self) -> SashaStatus | None:
        """What Sasha says; None if she gives no answer in time, on a busy machine."""
        with suppress(RPCError, DependencyUnavailable):
            return await sasha_status(self._client, self.installation)
        return None

    async def deliver(self, pipeline: str | Pipeline = "standard", **changes: object) -> timedelta:
        """Run a requirement to its delivery; returns the virtual time that it took."""
        handle = await self.start(pipeline, **changes)  # type: ignore[arg-type] # names its own
        report = await handle.result()
        assert report.state == "DELIVERED", report
        execution = await handle.describe()
        assert execution.close_time
        return execution.close_time - execution.start_time

    async def until_blocked(self, handle: Handle) -> None:
        """Wait until a human is asked."""
        await until(lambda: self._is_blocked(handle.id), f"{handle.id} is BLOCKED")

    async def _is_blocked(self, number: str) -> bool:
        events = [event["eventType"] for event in await self.events(number)]
        return bool(events) and events[-1] == "workflow.escalated"

    async def until_running(self, stage: str, runs: int = 1) -> None:
        """Wait until the stage's agent has been started so often."""

        async def is_running() -> bool:
            return self.runs.started().count(stage) >= runs

        await until(is_running, f"{stage} runs")

    async def blocked(self, number: str = "") -> Mapping[str, Any]:
        """The latest `workflow.blocked`."""
        events = [e for e in await self.events(number) if e["eventType"] == "workflow.blocked"]
        return events[-1]

    async def events(self, number: str = "") -> list[Mapping[str, Any]]:
        """What JetStream holds of a requirement, in order."""
        wanted = number or self.number
        return [e async for e in self._publisher.events() if e["reqNumber"] == wanted]

    async def escalations(self, number: str = "") -> list[Mapping[str, Any]]:
        """Questions to a human about a requirement, and reminders, as JetStream holds them."""
        subject = f"{ESCALATION_PREFIX}.{number or self.number}"
        return [event async for event in self._publisher.events(subject=subject)]

    def handle(self, number: str) -> Handle:
        """The workflow of a number, a fix for instance."""
        return self._client.get_workflow_handle_for(RequirementWorkflow.run, number)

    async def types(self, number: str = "") -> list[str]:
        return [str(event["eventType"]) for event in await self.events(number)]


async def ended(handle: WorkflowHandle[Any, DeliveryReport]) -> DeliveryReport:
    """The report of a requirement that has ended, also if that failed its workflow."""
    try:
        return await handle.result()
    except WorkflowFailureError as failure:
        if report := report_of(failure.cause, DATA_CONVERTER.payload_converter):
            return report
        raise


async def delivered(*handles: Handle) -> None:
    """Wait until all are."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        reports = await asyncio.gather(*(handle.result() for handle in handles))
    assert {report.state for report in reports} == {"DELIVERED"}, reports


async def is_looked_after(*clusters: Cluster) -> None:
    """Call Sasha, and wait for the end of the look that every call causes.

    Called before it has ended, she would look again, and never come to continue as new.
    """

    def looks() -> int:
        return sum(cluster.cluster_care.looks for cluster in clusters)

    async def has_looked() -> bool:
        return looks() > before

    before = looks()
    await clusters[0].scheduled_check()
    await until(has_looked, "Sasha has looked")
    await until(clusters[0].is_idle, "Sasha waits for calls")


async def recorded_incidents(reader: SdlcReader, count: int = 1) -> Sequence[IncidentView]:
    """They are written down beside what continues."""
    found: list[IncidentView] = []

    async def are_recorded() -> bool:
        found[:] = await reader.incidents()
        return len(found) >= count

    await until(are_recorded, f"{count} incidents are recorded")
    return found


async def until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Poll for a condition that must come true."""
    await eventually_async(condition, what)


async def retry_when_possible(handle: Handle, stage: str) -> Reopened:
    """An event says that a stage has failed a moment before its workflow knows."""
    taken: list[Reopened] = []

    async def is_taken() -> bool:
        request = RetryRequest(stage, "ada")
        with suppress(WorkflowUpdateFailedError):
            taken.append(await handle.execute_update(RequirementWorkflow.retry, request))
        return bool(taken)

    await until(is_taken, f"{stage} can be retried")
    return taken[0]


def _has_begun(history: WorkflowHistory) -> bool:
    return any(
        event.HasField("workflow_task_completed_event_attributes") for event in history.events
    )


async def replay(history: WorkflowHistory) -> None:
    """Replay it as it was played; the recorded histories are replayed in the sandbox, too."""
    replayer = Replayer(
        workflows=WORKFLOWS,
        workflow_runner=WORKFLOW_RUNNER,
        data_converter=DATA_CONVERTER,
    )
    await replayer.replay_workflow(history)
