"""The whole application around one project: real servers, a real worker, agents on strings."""

import os
import secrets
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError

from adapters.installation import establish
from adapters.local_stack import StackAddresses
from adapters.nats import events as nats_events
from adapters.processes import end_processes
from adapters.runs.directory import RUNS, RunDirectory
from adapters.runs.kinds import leftovers
from adapters.sdlc.migrate import upgrade
from adapters.sdlc.reader import create_reader
from adapters.sdlc.store import create_store
from adapters.sdlc.views import RequirementView, StageView
from adapters.temporal.client import DATA_CONVERTER
from cli.connections import Services
from cli.inputs import Submission
from cli.start import Launch, launch
from demo.project import make_project
from pipeline.events import EVENT_PREFIX
from pipeline.model import (
    DeliveryReport,
    Pipeline,
    Priority,
    Reopened,
    RequirementOrder,
    RequirementState,
    RetryRequest,
    StageState,
)
from tests.eventually import eventually_async
from tests.fixtures_workspaces import GitProject, store_of
from tests.namespaces import create_namespace
from tests.puppets import Puppets
from tests.worker_process import WorkerProcess
from workflows.requirement import RequirementWorkflow
from workflows.starting import start_requirement

Handle = WorkflowHandle[RequirementWorkflow, DeliveryReport]

HEARTBEAT = timedelta(seconds=3)
"""The default of `Settings`: what users have."""


class Orchestra:
    """One host with its own namespace, database, state directory and project.

    Queues, rows and runs of other tests are out of reach; only NATS is shared, by number.
    """

    def __init__(self, stack: StackAddresses, directory: Path) -> None:
        self._stack = stack
        self.name = f"e2e{secrets.token_hex(4)}"
        self.home = directory / "home"
        for name in ("puppets", "project"):
            (directory / name).mkdir()
        self.puppets = Puppets(directory / "puppets")
        self.project = GitProject(make_project(directory / "project"))
        self.database_url = f"{stack.database_url.rpartition('/')[0]}/{self.name}"
        self.environment = self._environment(directory)
        self.worker = WorkerProcess(self.environment, directory)
        self._handles: list[Handle] = []
        self._accepted: dict[str, RequirementOrder] = {}

    @property
    def number(self) -> str:
        """The number of the test's only, or first, requirement."""
        return f"REQ-{self.name}"

    async def open(self) -> None:
        """Make namespace and database, and connect to everything."""
        await create_namespace(self._stack.temporal_address, self.name)
        await self._execute(sql.SQL("CREATE DATABASE {}"))
        upgrade(self.database_url)
        self.temporal = await Client.connect(
            self._stack.temporal_address,
            namespace=self.name,
            data_converter=DATA_CONVERTER,
        )
        self._store = create_store(self.database_url)
        self.reader = create_reader(self.database_url)
        identity = await establish(self.temporal, self._store.database)
        self.installation = identity.installation
        self._publisher = await nats_events.connect(
            self._stack.nats_url, self._stack.nats_user, self._stack.nats_password
        )
        await self._publisher.ensure_streams()

    async def close(self) -> None:
        """End whatever is left: worker, workflows, agents, connections, database."""
        self.worker.close()
        for handle in self._handles:
            with suppress(RPCError):  # most have ended by themselves
                await handle.terminate()
        for run in self.runs():
            end_processes(lambda run=run: leftovers(run))  # type: ignore[misc] # bound per run
        await self._publisher.close()
        await self.reader.close()
        await self._store.close()
        await self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)"))

    async def start(
        self,
        pipeline: Pipeline,
        *,
        number: str = "",
        priority: Priority = Priority.P2,
        target: str = "",
    ) -> Handle:
        """Start a requirement the way `starter.py start` does."""
        number = number or self.number
        title, plan = "Greet in the user's language", pipeline.name
        submission = Submission(number, title, priority=priority, pipeline=plan, target=target)
        await launch(
            Services(self.temporal, self._store, self.reader, self.installation),
            [Launch(submission, pipeline)],
            heartbeat=HEARTBEAT,
            attach=False,
        )
        return self.handle(number)

    async def accept(
        self, pipeline: Pipeline, *, number: str, priority: Priority = Priority.P2
    ) -> None:
        """Accept a requirement, as a start does that gets no further than its row."""
        order = RequirementOrder(number, "Greet", priority, pipeline, False, HEARTBEAT)
        await self._store.accept(order, "")
        self._accepted[number] = order

    async def begin(self, number: str) -> Handle:
        """Start the workflow of an accepted requirement, whatever else is away."""
        await start_requirement(self.temporal, self.installation.queues, self._accepted[number])
        return self.handle(number)

    def handle(self, number: str) -> Handle:
        """The workflow of a number that somebody has started."""
        handle = self.temporal.get_workflow_handle_for(RequirementWorkflow.run, number)
        self._handles.append(handle)
        return handle

    async def retry(self, handle: Handle, stage: str) -> Reopened:
        """Answer a blocked requirement."""
        request = RetryRequest(stage, "tester")
        return await handle.execute_update(RequirementWorkflow.retry, request)

    async def attempts(self, handle: Handle) -> list[tuple[str, int]]:
        """The workflow's activities that a worker has taken, as (id, attempt), lost ones too."""
        pending = (await handle.describe()).raw_description.pending_activities
        started = PendingActivityState.PENDING_ACTIVITY_STATE_STARTED
        return [(each.activity_id, each.attempt) for each in pending if each.state == started]

    async def until_taken(self, handle: Handle, stages: int) -> None:
        """Wait until a worker has taken that many stages of the requirement."""

        async def is_taken() -> bool:
            return len(await self.attempts(handle)) == stages

        await eventually_async(is_taken, f"{stages} stages of {handle.id} taken")

    async def until_taken_over(
        self, handle: Handle, stages: int, before: Collection[tuple[str, int]]
    ) -> None:
        """Wait until a new worker has taken that many stages, and none is taken as before.

        A stage that was just told to wait for a slot waits in another activity by then.
        """

        async def is_taken_over() -> bool:
            attempts = await self.attempts(handle)
            return len(attempts) == stages and not set(attempts) & set(before)

        await eventually_async(is_taken_over, f"stages of {handle.id} taken over")

    async def view(self, number: str = "") -> RequirementView:
        """What the database shows."""
        return await self.reader.requirement(number or self.number)

    async def stage(self, name: str, number: str = "") -> StageView:
        """What the database shows of a stage."""
        return next(s for s in (await self.view(number)).stages if s.stage == name)

    async def until_state(self, state: RequirementState, number: str = "") -> RequirementView:
        """Wait for that state; fail at once if the requirement has ended in another."""

        async def stands() -> bool:
            view = await self.view(number)
            assert view.state is state or not view.state.is_final, explained(view)
            return view.state is state

        await eventually_async(stands, f"{state} of {number or self.number}")
        return await self.view(number)

    async def until_stage(self, name: str, state: StageState) -> StageView:
        """Wait until the stage stands there."""

        return await self.until_shown(name, lambda shown: shown.state is state)

    async def until_shown(self, name: str, claim: Callable[[StageView], bool]) -> StageView:
        """Wait until the database shows of the stage what is claimed."""

        async def shows() -> bool:
            return claim(await self.stage(name))

        await eventually_async(shows, f"what is claimed of {name}")
        return await self.stage(name)

    async def events(
        self, number: str = "", subject: str = f"{EVENT_PREFIX}.>"
    ) -> Sequence[Mapping[str, Any]]:
        """What JetStream holds of the requirement, in order."""
        wanted, told = number or self.number, self._publisher.events(subject=subject)
        return [event async for event in told if event["reqNumber"] == wanted]

    async def query(self, statement: str, *values: str) -> Sequence[tuple[Any, ...]]:
        """What the database answers."""
        address = self.database_url.replace("postgresql+psycopg", "postgresql")
        async with await psycopg.AsyncConnection.connect(address) as connection:
            return await (await connection.execute(statement, values)).fetchall()

    def runs(self) -> list[RunDirectory]:
        """Every run of the host."""
        return [RunDirectory(path, "") for path in self.home.glob(f"{RUNS}/*/*/*")]

    def run(self, slug: str) -> RunDirectory:
        """The run of the attempt of that name, `backend-implementation-1`."""
        return next(run for run in self.runs() if run.path.name == slug)

    @property
    def store(self) -> GitProject:
        """Our own repository of the project."""
        return store_of(self.project, self.home)

    def clones(self) -> list[str]:
        """What agents and builds have left of the requirement's clones."""
        return sorted(path.name for path in self.home.glob(f"clones/{self.number}/*"))

    def _environment(self, directory: Path) -> dict[str, str]:
        assert self._stack.nats_user
        assert self._stack.nats_password
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "TEMPORAL_ADDRESS": self._stack.temporal_address,
            "TEMPORAL_NAMESPACE": self.name,
            "NATS_URL": self._stack.nats_url,
            "NATS_USER": self._stack.nats_user,
            "NATS_PASSWORD": self._stack.nats_password,
            "DATABASE_URL": self.database_url,
            "PROJECT_ROOT": str(self.project.root),
            "AGOG_HOME": str(self.home),
            "AGOG_HOST": self.name,
            "AGOG_AGENTS_FILE": str(self.puppets.agents_file()),
        }

    async def _execute(self, statement: sql.SQL) -> None:
        address = self._stack.database_url.replace("postgresql+psycopg", "postgresql")
        connection = await psycopg.AsyncConnection.connect(address, autocommit=True)
        async with connection:
            await connection.execute(statement.format(sql.Identifier(self.name)))


def explained(view: RequirementView) -> str:
    """The state of a requirement and its reasons, as a failure message."""
    errors = (f"{failure.stage}: {failure.error}" for failure in view.failures)
    return "\n".join([f"{view.number} is {view.state}. {view.reason}", *errors])
