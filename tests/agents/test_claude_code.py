"""The real Claude Code, run as an agent against a stand-in of its API."""

import subprocess
from pathlib import Path

import pytest

from pipeline.agent_programs import Permission, ProgramAgent
from pipeline.answers import read_run
from pipeline.model import Ending, StageState, Tokens
from pipeline.verdicts import green_notice
from tests.agents.programs import installed
from tests.agents.stand_ins import Answer, Run, Write, script, stand_in
from tests.fixtures_runs import Bench, attach
from tests.unit.test_answers import a_request

pytestmark = pytest.mark.agents


async def test_it_edits_its_clone_and_answers_by_schema(runs: Bench, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    subprocess.run(["git", "init", "--quiet", str(clone)], check=True)
    answer = {**green_notice("roy", "REQ-1"), "no_changes_needed": None, "deliverable": None}
    turns = (Write("hello.txt", "hello\n"), Run("touch ran"), Run("curl x"), Answer(answer))
    with stand_in(script(*turns)) as api:
        runs.environment = {
            **runs.environment,
            "HOME": str(tmp_path / "home-of-claude"),
            "ANTHROPIC_API_KEY": "key",
            "ANTHROPIC_BASE_URL": api.url,
        }
        runs.agents["roy"] = ProgramAgent(
            "claude-code",
            str(installed() / "claude"),
            "claude-code",
            permission=Permission.RUN,
            commands=("touch",),
        )
        result = await attach(runs.host(), runs.order(worktree=str(clone)))

    report = result.report
    assert report
    assert (report.ending, report.answer) == (Ending.SUCCESS, answer)
    assert report.denials == ("Bash curl x",)
    assert {path.name for path in clone.iterdir()} == {".git", "hello.txt", "ran"}
    # By the program's own prices: 4 requests of 800 fresh, 200 cached and 50 written tokens.
    assert report.tokens == Tokens(input=4000, output=200, cached=800)
    assert report.cost_usd == pytest.approx(0.0214)
    assert read_run(a_request(), result).state is StageState.COMPLETED
