"""Requirements that real programs work on, from start to delivery, on real servers."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from adapters.agent_programs import PROGRAMS
from adapters.runs import records
from adapters.runs.directory import RunDirectory
from pipeline.model import RequirementState
from pipeline.numbers import slug
from pipeline.team import TEAM, Role
from tests.agents.programs import installed
from tests.agents.scenarios import environment, notice_of
from tests.agents.stand_ins import Answer, StandIn, Turn, Write, stand_in
from tests.e2e.conftest import Cli
from tests.eventually import eventually, eventually_async
from tests.orchestra import Orchestra, explained
from tests.orchestra_plans import BACKEND, SOLO
from tests.plans import shipped

pytestmark = pytest.mark.agents

_BUILDS = '[builds.backend]\nkind = "simulated"\n[builds.frontend]\nkind = "simulated"\n'
_YOU_ARE = re.compile(r"# (REQ-[\w-]+): .*?You are (\w+)\.")


def work(n: int, prompt: str) -> Turn:
    """Each agent writes a file of its own and answers green; testers call both specialists."""
    number, agent = told(prompt)
    if n == 0:
        return Write(f"work/{agent}.md", f"{agent} was here\n")
    flags = {"needs_todd": True, "needs_vic": True} if TEAM[agent].role == Role.QA else {}
    return Answer(notice_of(agent, number, **flags))


def told(prompt: str) -> tuple[str, str]:
    """The requirement and the agent that a prompt names."""
    found = _YOU_ARE.search(prompt)
    assert found, prompt[:500]
    return found[1], found[2]


def equip(orchestra: Orchestra, api: StandIn, kinds: Mapping[str, str]) -> dict[str, str]:
    """The worker's environment with an agents file of those kinds; the others are Claude Code."""
    lines = [
        "[defaults]",
        'kind = "claude-code"',
        f"program = {json.dumps(program('claude-code'))}",
    ]
    for agent, kind in kinds.items():
        lines += [f"[agents.{agent}]", f'kind = "{kind}"', f"program = {json.dumps(program(kind))}"]
        if kind == "codex":
            arguments = ["-c", f'openai_base_url="{api.url}/v1"', "-m", MODELS[kind]]
            lines.append(f"arguments = {json.dumps(arguments)}")
        elif kind in MODELS:
            lines.append(f'model = "{MODELS[kind]}"')
    file = orchestra.home.parent / "agents.toml"
    file.write_text("\n".join(lines) + "\n" + _BUILDS)
    return {**environment({}, api, orchestra.home.parent), "AGOG_AGENTS_FILE": str(file)}


MODELS = {"codex": "gpt-5-codex", "gemini": "gemini-2.5-flash"}
ESTIMATES = {
    # twice 800 x $1.25 + 200 x $0.125 + 50 x $10 a million
    "codex": 0.00305,
    # twice 800 x $0.30 + 200 x $0.03 + 50 x $2.50 a million
    "gemini": 0.000742,
}


def told_by(run: RunDirectory) -> float | None:
    """What the program itself has said that its run cost, in its last line that does."""
    lines = run.file(records.STDOUT).read_text().splitlines()
    costs = [json.loads(line).get("total_cost_usd") for line in lines if line.startswith("{")]
    return next((float(cost) for cost in reversed(costs) if cost is not None), None)


def program(kind: str) -> str:
    return str(installed() / PROGRAMS[kind].traits.program)


@pytest.mark.parametrize(
    "kinds",
    [
        pytest.param({}, id="claude-code"),
        pytest.param(
            {"roy": "codex", "jen": "codex", "billy": "gemini", "liz": "gemini"}, id="mixed"
        ),
    ],
)
async def test_a_whole_team_of_real_programs_delivers(
    orchestra: Orchestra, kinds: Mapping[str, str]
) -> None:
    with stand_in(work) as api:
        await orchestra.worker.start(**equip(orchestra, api, kinds))
        handle = await orchestra.start(shipped("standard"))
        report = await handle.result()
    view = await orchestra.view()

    assert report.state is RequirementState.DELIVERED, explained(view)
    files = {f"work/{agent}.md" for agent in TEAM}
    assert files <= set(orchestra.project.files("main"))
    assert [stage.starts for stage in view.stages] == [1] * len(TEAM)
    # Each of two requests takes 1,000 tokens, 200 of them cached, and gives 50.
    assert all(stage.cost.tokens and stage.cost.tokens.total >= 2100 for stage in view.stages)
    for stage in view.stages:
        kind = kinds.get(stage.agent, "claude-code")
        run = orchestra.run(f"{slug(stage.stage)}-1")
        usd = told_by(run) if kind == "claude-code" else ESTIMATES[kind]
        assert usd is not None
        assert stage.cost.usd == pytest.approx(usd, abs=1e-9), stage
        assert (stage.cost.is_estimated, stage.cost.is_partial) == (kind in ESTIMATES, False)
    whole = sum(stage.cost.usd or 0 for stage in view.stages)
    assert view.cost.usd == pytest.approx(whole)
    assert len({stage.session for stage in view.stages}) == len(TEAM)
    cli = Cli(orchestra.environment, orchestra.home.parent)
    log = cli("logs", orchestra.number, "jen", "--follow")
    assert "work/jen.md" in log.out, log.err
    assert "» session" in log.out
    assert cli("logs", orchestra.number, "jen", "--raw").out.startswith('{"type":')
    mark = "≈" if kinds else ""
    assert f" out), {mark}${whole:.4f}" in cli("status", orchestra.number).out


async def test_a_worker_that_is_killed_again_and_again_pays_once(orchestra: Orchestra) -> None:
    with stand_in(work) as api:
        api.open.clear()
        given = equip(orchestra, api, {})
        await orchestra.worker.start(**given)
        handle = await orchestra.start(SOLO)
        await eventually(lambda: len(api.requests) == 1, "the first request")
        for _ in range(int(os.environ.get("AGOG_TEST_KILLS", "3"))):
            orchestra.worker.kill()
            await orchestra.worker.start(**given)
            await orchestra.until_taken(handle, 1)
        orchestra.worker.kill()
        api.open.set()  # it works and ends while no worker lives
        (run,) = orchestra.runs()
        await eventually_async(lambda: has_ended(run.records_path), "its end")
        await orchestra.worker.start(**given)
        report = await handle.result()

    view = await orchestra.view()
    assert report.state is RequirementState.DELIVERED, explained(view)
    stage = next(stage for stage in view.stages if stage.stage == BACKEND)
    assert (stage.starts, stage.attempt) == (1, 1)
    assert stage.cost.usd == told_by(run)
    assert len(api.requests) == 2


async def has_ended(place: Path) -> bool:
    return (place / records.EXIT).exists()
