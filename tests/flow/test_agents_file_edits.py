"""What an agents file refuses waits for a human who mends it; nothing has FAILED by it."""

import asyncio
from dataclasses import replace
from pathlib import Path

from adapters.git import GitWorkspaces
from adapters.sdlc.reader import SdlcReader
from pipeline.agents_file import BuildCommand, CommandAgent
from pipeline.errors import AgentsFileRefused
from pipeline.model import OPENING, RequirementState
from tests.cluster import AGENTS, REPAIR, Cluster, Handle, retry_when_possible
from tests.eventually import PATIENCE_SECONDS
from tests.orchestra_plans import BACKEND, team_of

PLAN = team_of("Research", "Backend")
PREPARED = replace(
    AGENTS,
    agents=dict.fromkeys(AGENTS.agents, CommandAgent(("true",))),
    builds={"backend": BuildCommand(".", ("true",), prepare=("npm", "ci"))},
)


async def delivered(handle: Handle) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        report = await handle.result()
    assert report.state is RequirementState.DELIVERED, report


async def test_each_refusal_of_the_file_is_a_question_that_retry_answers(
    cluster: Cluster, workspaces: GitWorkspaces, sdlc_reader: SdlcReader
) -> None:
    without_roy = {name: agent for name, agent in PREPARED.agents.items() if name != "roy"}
    broken = replace(PREPARED, agents=without_roy)
    await cluster.open(workspaces=workspaces, agents=broken)
    is_broken = True

    def prepare(clone: Path) -> int:
        if is_broken:
            raise AgentsFileRefused("agents.toml", "builds.backend", "there is no such build")
        return 0

    cluster.builds.on_prepare = prepare
    handle = await cluster.start(PLAN, bounds=REPAIR)

    await cluster.until_blocked(handle)
    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.waiting_for) == (RequirementState.BLOCKED, "human")
    assert "agents.roy: is missing" in view.failures[0].error
    assert view.escalation
    assert "retry opening" in view.escalation.answers
    cluster.agents_file = PREPARED
    await retry_when_possible(handle, OPENING)

    await cluster.until_blocked(handle)
    view = await sdlc_reader.requirement(cluster.number)
    assert (view.state, view.failures[0].stage) == (RequirementState.BLOCKED, BACKEND)
    assert "builds.backend: there is no such build" in view.failures[0].error
    is_broken = False
    await retry_when_possible(handle, BACKEND)

    await delivered(handle)
    assert cluster.runs.started() == ["Research", BACKEND]
