"""A cluster whose agents follow a scenario, and the human who answers what it asks."""

import asyncio
import shlex
from dataclasses import replace
from pathlib import Path

from temporalio.client import WorkflowUpdateFailedError
from temporalio.service import RPCError, RPCStatusCode

from adapters.git import GitWorkspaces
from adapters.sdlc.reader import SdlcReader
from adapters.temporal.messages import TemporalNotifier
from pipeline.agents_file import CommandAgent
from pipeline.model import Answer, DecisionRequest, DeliveryReport, RetryRequest
from pipeline.ports import HostPorts
from tests.cluster import AGENTS, Cluster, Handle, ended, replay
from tests.eventually import PATIENCE_SECONDS
from tests.fakes import AlwaysReady, NobodyWaits, PlainPrompts, ScriptedCare
from tests.fixtures_workspaces import GitProject
from tests.outcomes.agents import AnyBuilds, AnyRuns
from tests.outcomes.scenarios import PLANS, Scenario
from worker import build_workers
from workflows.requirement import RequirementWorkflow

_AGENTS = replace(AGENTS, agents=dict.fromkeys(AGENTS.agents, CommandAgent(("true",))))
"""Programs, which need a project in every plan, although a scenario answers for them."""
_ABORT = f"decide {Answer.ABORT}"
_REFUSALS = 25
"""What is refused that often will not be accepted any more."""


class AnyHouse(Cluster):
    """Takes one requirement through a scenario in a project of its own."""

    project: GitProject
    home: Path
    agents: AnyRuns

    async def play(self, scenario: Scenario, directory: Path, reader: SdlcReader) -> DeliveryReport:
        """Run it to its end; a loop that does not end is a TimeoutError."""
        self.project = a_project(directory / "project")
        self.agents = AnyRuns(scenario, self.project)
        self.home = directory / "home"
        await self._open(GitWorkspaces(self.project.root, self.home))
        plan = PLANS[scenario.pipeline]
        handle = await self.start(plan, bounds=scenario.bounds, sequential=scenario.sequential)
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await Human(handle, reader, scenario).answer_until_the_end()

    async def replay(self) -> None:
        """Replay every history of the family."""
        for handle in self._handles:
            for history in await self.family(handle.id):
                await replay(history)
        self._handles.clear()

    async def _open(self, workspaces: GitWorkspaces) -> None:
        ports = HostPorts(
            store=self.store,
            publisher=self._publisher,
            notifier=TemporalNotifier(self._client),
            sasha=NobodyWaits(),
            cluster_care=ScriptedCare(),
            host_care=ScriptedCare(),
            runs=self.agents,
            prompts=PlainPrompts(),
            builds=AnyBuilds(),
            workspaces=workspaces,
            readiness=AlwaysReady(),
            agents=lambda: _AGENTS,
            host=self.host,
            host_requirements=50,
            parallel=True,
        )
        for worker in build_workers(self._client, self.installation, ports):
            await self._stack.enter_async_context(worker)


class Human:
    """Gives the scenario's answers, then gives the requirement up."""

    def __init__(self, handle: Handle, reader: SdlcReader, scenario: Scenario) -> None:
        self._handle = handle
        self._reader = reader
        self._answers = list(scenario.answers)
        self._eager = scenario.eager
        self._refusals = 0

    async def answer_until_the_end(self) -> DeliveryReport:
        ending = asyncio.ensure_future(ended(self._handle))
        try:
            while not ending.done():
                if offered := await self._offered():
                    await self._answer(offered)
                await asyncio.wait([ending], timeout=0.05)
            return ending.result()
        finally:
            ending.cancel()

    async def _offered(self) -> tuple[str, ...]:
        """The answers to the open question, if there is one."""
        asked = await self._reader.escalations(self._handle.id)
        view = await self._reader.requirement(self._handle.id)
        if self._eager or view.waiting_for == "human":
            return next((tuple(one.answers) for one in asked if one.answered_at is None), ())
        return ()

    async def _answer(self, offered: tuple[str, ...]) -> None:
        chosen = offered[self._answers[0] % len(offered)] if self._answers else _ABORT
        try:
            await self._say(chosen)
        except WorkflowUpdateFailedError:  # not yet, or not any more
            self._refusals += 1
        except RPCError as error:  # it ends in this moment
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
        else:
            self._refusals = _REFUSALS
        if self._refusals >= _REFUSALS:
            self._refusals, self._answers = 0, self._answers[1:]

    async def _say(self, command: str) -> None:
        verb, word = shlex.split(command)
        if verb == "retry":
            await self._handle.execute_update(RequirementWorkflow.retry, RetryRequest(word, "ada"))
        else:
            decision = DecisionRequest(Answer(word), "ada")
            await self._handle.execute_update(RequirementWorkflow.decide, decision)


def a_project(root: Path) -> GitProject:
    root.mkdir(parents=True)
    project = GitProject(root)
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit({"readme.md": "hello\n", "shared.txt": "one\n"})
    return project
