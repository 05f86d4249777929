"""Sessions of the real programs: how one that was cut off goes on."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.program import ProcessEnd, Task
from adapters.agent_programs.stream import read_report
from pipeline.answers import read_run
from pipeline.model import Ending, ProgramReport, RunEnd, StageState
from pipeline.notice import notice_schema
from tests.agents.scenarios import NOTICE, SCENARIOS, agent, environment, play
from tests.agents.stand_ins import Say, StandIn, Turn, Write, script, stand_in
from tests.fixtures_runs import Bench
from tests.unit.test_answers import a_request

pytestmark = pytest.mark.agents


async def run(kind: str, api: StandIn, clone: Path, session: str, prompt: str) -> ProgramReport:
    """Start a session, or resume it, as the adapter says, without a supervisor."""
    scenario = SCENARIOS[f"{kind} works"]
    folder = clone.parent / "run"
    folder.joinpath("outbox").mkdir(parents=True, exist_ok=True)
    is_new = prompt == "Begin."
    task = Task(
        clone,
        folder,
        folder / "outbox",
        json.dumps(notice_schema("roy", "REQ-1")),
        session,
        not is_new,
    )
    launch = PROGRAMS[kind].launch(agent(scenario, api), task)
    for name, text in launch.files.items():
        folder.joinpath(name).write_text(text)
    given = environment(scenario.environment, api, clone.parent)
    emptied = {name: "" for name in launch.emptied if name not in given}
    process = await asyncio.create_subprocess_exec(
        *launch.argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=clone,
        env={**emptied, **given, **launch.variables},
    )
    output, errors = await process.communicate(prompt.encode())
    stream = folder / "stream"
    stream.write_bytes(output)
    end = ProcessEnd(kind, launch.session, RunEnd.EXITED, process.returncode, errors.decode(), None)
    return read_report(PROGRAMS[kind], stream, end)


@pytest.mark.parametrize("kind", PROGRAMS)
async def test_a_session_goes_on_with_what_was_said(kind: str, clone: Path) -> None:
    session = "0f5a1d0e-9a39-4a51-8a43-3f1d51a3f6b1"
    with stand_in(script(*SCENARIOS[f"{kind} works"].turns)) as api:
        first = await run(kind, api, clone, session, "Begin.")
        before = len(api.requests)
        second = await run(kind, api, clone, first.session, "Go on where you stopped.")

    assert (first.ending, second.ending) == (Ending.SUCCESS, Ending.SUCCESS), second
    assert second.session == first.session
    # Each request takes 1,000 tokens. Codex alone tells those of the whole session.
    own = len(api.requests) - (0 if second.counts_session else before)
    assert second.tokens
    assert second.tokens.input == pytest.approx(1000 * own, abs=5)
    assert second.counts_session is (kind == "codex")
    if first.cost_usd and second.cost_usd:
        paid = first.cost_usd * own / before
        assert second.cost_usd == pytest.approx(paid, rel=0.02)
    told = json.dumps(api.requests[-1].body)
    assert "Begin." in told
    assert "Go on where you stopped." in told
    assert second.text == first.text


@pytest.mark.parametrize("kind", PROGRAMS)
async def test_a_missing_answer_is_asked_for_once_more(kind: str, runs: Bench, clone: Path) -> None:
    prose = Say("All is done.")
    # Claude Code asks for its answer by itself, once.
    said = (prose, prose) if kind == "claude-code" else (prose,)
    turns: tuple[Turn, ...] = (Write("hello.txt", "hello\n"), *said, NOTICE)
    scenario = replace(SCENARIOS[f"{kind} works"], turns=turns)

    result, api = await play(scenario, runs, clone)

    assert result.report
    assert read_run(a_request(), result).state is StageState.COMPLETED
    assert (result.report.asked_again, result.starts) == (1, 1)
    assert "was not accepted" in json.dumps(api.requests[-1].body)
    # Every request took 1,000 tokens: each is counted once, in whichever part of the session.
    assert result.report.tokens
    assert result.report.tokens.input == 1000 * len(api.requests)
