"""Sessions of the real programs: how one that was cut off goes on."""

import asyncio
import json
import os
import shutil
import signal
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.program import ProcessEnd, Task
from adapters.agent_programs.stream import read_report
from adapters.runs.directory import RESUMED, RunDirectory
from pipeline.answers import read_run
from pipeline.model import Ending, FailureKind, ProgramReport, RunEnd, StageState
from pipeline.notice import notice_schema
from pipeline.team import TEAM
from tests.agents.scenarios import (
    FROM_NPM,
    NOTICE,
    SCENARIOS,
    agent,
    environment,
    left_of,
    play,
)
from tests.agents.stand_ins import Hang, Say, StandIn, Turn, Write, script, stand_in
from tests.eventually import eventually
from tests.fixtures_runs import Bench, attach, follow
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
        json.dumps(notice_schema(TEAM["roy"], "REQ-1")),
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


@pytest.mark.parametrize("kind", FROM_NPM)
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


@pytest.mark.parametrize("kind", FROM_NPM)
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


@pytest.mark.parametrize("kind", FROM_NPM)
async def test_a_session_that_died_with_its_host_is_resumed_in_its_clone(
    kind: str, runs: Bench, clone: Path
) -> None:
    scenario = SCENARIOS[f"{kind} works"]
    is_killed = False

    def answers(n: int, prompt: str) -> Turn:
        if n == 0:
            return Write("hello.txt", "hello\n")
        return NOTICE if is_killed else Hang()

    with stand_in(answers) as api:
        runs.agents["roy"] = agent(scenario, api)
        runs.environment = environment(scenario.environment, api, clone.parent)
        order = runs.order(worktree=str(clone), prompt="Begin.", prompt_by_schema="Begin.")
        following = asyncio.create_task(attach(runs.host(), order))
        await eventually(lambda: len(api.requests) == 2, "the answer after its first tool")
        kill_all(run := runs.directory(order))
        is_killed = True
        first = await following
        assert (first.end, first.is_resumable) == (RunEnd.LOST, True)
        assert (clone / "hello.txt").exists()

        result = await follow(runs.host(), order)

    assert read_run(a_request(), result).state is StageState.COMPLETED, result
    assert (result.starts, result.resumes) == (1, 1)
    told = json.dumps(api.requests[-1].body)
    for said in ("Begin.", "hello.txt", "Go on where you stopped"):
        assert said in told
    assert [part.purpose for part in run.parts()] == ["", RESUMED]
    assert len(api.requests) == 3
    assert left_of(run.path) == []


@pytest.mark.parametrize("kind", FROM_NPM)
async def test_a_session_that_is_gone_is_refused_and_said(
    kind: str, runs: Bench, clone: Path
) -> None:
    scenario = SCENARIOS[f"{kind} works"]
    turns = (Write("hello.txt", "hello\n"), Hang())
    with stand_in(script(*turns)) as api:
        runs.agents["roy"] = agent(scenario, api)
        runs.environment = environment(scenario.environment, api, clone.parent)
        order = runs.order(worktree=str(clone))
        following = asyncio.create_task(attach(runs.host(), order))
        await eventually(lambda: len(api.requests) == 2, "the answer after its first tool")
        kill_all(runs.directory(order))
        await following
        forget_sessions(clone.parent / "home-of-agents")

        result = await follow(runs.host(), order)

    failure = read_run(a_request(), result).failure
    assert failure
    assert failure.kind is FailureKind.INFRASTRUCTURE, failure
    assert "could not be resumed" in failure.error
    assert len(api.requests) == 2  # it was refused before anything was paid


@pytest.mark.parametrize("kind", ["claude-code", "codex"])
async def test_a_fix_begins_with_a_copy_of_the_session_of_what_it_repairs(
    kind: str, runs: Bench, clone: Path
) -> None:
    scenario = SCENARIOS[f"{kind} works"]
    turns = iter((Write("hello.txt", "hello\n"), NOTICE, Write("fixed.txt", "fixed\n"), NOTICE))
    with stand_in(lambda n, prompt: next(turns)) as api:
        runs.agents["roy"] = replace(agent(scenario, api), resume_for_fixes=True)
        runs.environment = environment(scenario.environment, api, clone.parent)
        order = runs.order(worktree=str(clone), prompt="Begin.", prompt_by_schema="Begin.")
        first = await attach(runs.host(), order)
        place = clone.parent / "clone-of-the-fix"
        shutil.copytree(clone, place)
        shutil.rmtree(clone)  # what was merged is removed
        again = {"worktree": str(place), "prompt": "Fix it.", "prompt_by_schema": "Fix it."}
        fix = runs.order(stage="Fix", continues=order.run_id, **again)
        second = await attach(runs.host(), fix)

    assert first.report
    assert second.report
    assert second.report.ending is Ending.SUCCESS, second
    assert second.report.session not in ("", first.report.session)
    told = json.dumps(api.requests[-1].body)
    for said in ("Begin.", "hello.txt", "Fix it.", f"new working directory, {place}"):
        assert said in told
    assert (place / "fixed.txt").read_text() == "fixed\n"
    # Codex counts the whole thread: only the difference is the fix's.
    assert first.report.tokens == second.report.tokens


def kill_all(run: RunDirectory) -> None:
    """Kill supervisor, program and all below, as a power cut does."""
    os.kill(run.last.identity()["supervisor"], signal.SIGKILL)
    while left := left_of(run.path):
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def forget_sessions(home: Path) -> None:
    """Remove every session of the programs."""
    for place in (".claude/projects", ".codex/sessions", ".gemini/tmp"):
        shutil.rmtree(home / place, ignore_errors=True)
    for database in home.glob(".codex/*.sqlite*"):
        database.unlink()
