"""Known programs as agents: scripts that print as the real ones do, under the real supervisor."""

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.claude_code import ClaudeStream
from adapters.agent_programs.probes import Asked
from adapters.agent_programs.program import Event, Launch, StopStep, Task
from adapters.runs import records, supervisor
from adapters.user_files import find_agents
from pipeline.agent_programs import Permission, ProgramAgent, ProgramTraits
from pipeline.answers import read_run
from pipeline.model import Ending, RunEnd, StageState
from pipeline.project_proposal import Login
from pipeline.verdicts import green_notice
from tests.eventually import eventually
from tests.fixtures_runs import Bench, attach
from tests.unit.test_answers import a_request

RESULT = {
    **{"type": "result", "subtype": "success", "is_error": False, "result": "Done."},
    **{"session_id": "s-1", "total_cost_usd": 0.5, "permission_denials": []},
    "structured_output": green_notice("roy", "REQ-1"),
}


def program(folder: Path, script: str) -> str:
    """A program in place of a real one; `$RESULT` is the last line of one that did well."""
    place = folder / "program"
    place.write_text(f"#!/bin/sh\nRESULT='{json.dumps(RESULT, separators=(',', ':'))}'\n{script}\n")
    place.chmod(0o755)
    return str(place)


def claude(folder: Path, script: str, **keys: object) -> ProgramAgent:
    usual = ProgramAgent("claude-code", program(folder, script), "claude-code")
    return replace(usual, **keys)  # type: ignore[arg-type] # the fields of the caller


async def test_a_report_is_part_of_the_result(runs: Bench, tmp_path: Path) -> None:
    runs.agents["roy"] = claude(tmp_path, 'cat > prompt; echo "$RESULT"')

    order = runs.order(prompt="Fence it.", prompt_by_schema="Answer by schema.")
    result = await attach(runs.host(), order)

    assert result.report
    assert (result.report.ending, result.report.cost_usd) == (Ending.SUCCESS, 0.5)
    assert read_run(a_request(), result).state is StageState.COMPLETED
    assert runs.directory(order).path.joinpath("prompt").read_text() == "Answer by schema."


async def test_another_worker_computes_the_same(runs: Bench, tmp_path: Path) -> None:
    runs.agents["roy"] = claude(tmp_path, 'echo "$RESULT"; exit 3')
    first = await attach(runs.host(), runs.order())

    runs.agents.clear()  # whatever the agents file says today
    second = await attach(runs.host(), runs.order())

    assert second == first
    assert second.report
    assert second.starts == 1


async def test_it_is_given_what_its_login_needs_and_what_its_file_names(
    runs: Bench, tmp_path: Path
) -> None:
    names = {"ANTHROPIC_API_KEY", "MINE", "OTHERS", "GITHUB_TOKEN", "CLAUDECODE"}
    runs.environment = {**runs.environment, **dict.fromkeys(names, "x")}
    script = 'env > environment; echo "$RESULT"'
    runs.agents["roy"] = claude(tmp_path, script, environment=("MINE",))

    await attach(runs.host(), order := runs.order())

    given = runs.directory(order).path.joinpath("environment").read_text()
    seen = {line.partition("=")[0] for line in given.splitlines()}
    assert names & seen == {"ANTHROPIC_API_KEY", "MINE"}
    assert "CLAUDE_CODE_MAX_RETRIES=2" in given.splitlines()


async def test_it_is_asked_to_end_in_its_own_way(runs: Bench, tmp_path: Path) -> None:
    script = (
        'trap \'echo "{\\"type\\":\\"result\\",\\"subtype\\":\\"error_during_execution\\",'
        '\\"is_error\\":true,\\"total_cost_usd\\":0.25}"; exit 0\' INT\n'
        "touch ready; while :; do sleep 0.05; done"
    )
    runs.agents["roy"] = claude(tmp_path, script)
    host, order = runs.host(), runs.order()
    run = runs.directory(order)
    async with host.slot(order.slot):
        await host.start(order)
    await eventually(run.path.joinpath("ready").exists, "its start")

    await host.end(order.run_id)

    result = run.result()
    assert result.end is RunEnd.CANCELLED
    assert result.report
    assert (result.report.ending, result.report.cost_usd) == (Ending.INTERRUPTED, 0.25)


async def test_one_that_ignores_being_asked_is_ended_all_the_same(
    runs: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.agent_programs.claude_code.STOP_SECONDS", 0.2)
    script = "trap '' INT TERM; touch ready; while :; do sleep 0.05; done"
    runs.agents["roy"] = claude(tmp_path, script)
    host, order = runs.host(), runs.order()
    run = runs.directory(order)
    async with host.slot(order.slot):
        await host.start(order)
    await eventually(run.path.joinpath("ready").exists, "its start")

    result = await host.end(order.run_id)

    assert result.end is RunEnd.CANCELLED
    assert result.report
    assert result.report.ending is Ending.CUT_OFF


async def test_one_that_hangs_after_its_result_is_ended_and_has_answered(
    runs: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.runs.program_starts.LINGER_SECONDS", 0.5)
    runs.agents["roy"] = claude(tmp_path, 'echo "$RESULT"; sleep 600')

    result = await attach(runs.host(), runs.order())

    assert result.end is RunEnd.TIMED_OUT
    assert result.reason == "ended 0.5 s after its last line: it hung"
    assert read_run(a_request(), result).state is StageState.COMPLETED


def test_the_last_line_is_seen_however_it_is_cut(tmp_path: Path) -> None:
    output = supervisor.Output(str(tmp_path / "stdout"), 1000, ('{"type":"result"',))
    for piece in (b'x {"type":"result"\n{"ty', b'pe":"resul'):
        os.write(output.writable, piece)
        output.pump()
        assert output.said_last is None
    os.write(output.writable, b't"}\n')
    output.pump()

    assert output.said_last is not None
    output.started()


# --- an answer that is missing or refused is asked for once more ----------------------------------

PROSE = {**RESULT, "structured_output": None, "result": "All is done."}
ASKED = (
    f"PROSE='{json.dumps(PROSE, separators=(',', ':'))}'\n"
    'case "$*" in *--resume*) echo "$*" > again; cat > told; BEGUN\n;; *) echo "$PROSE";; esac'
)


def asked(begun: str) -> str:
    """A program that answers in prose, and does `begun` when it is asked once more."""
    return ASKED.replace("BEGUN", begun)


async def test_a_missing_answer_is_asked_for_in_the_same_session(
    runs: Bench, tmp_path: Path
) -> None:
    runs.agents["roy"] = claude(tmp_path, asked('echo "$RESULT"'))

    result = await attach(runs.host(), order := runs.order(worktree=str(tmp_path)))

    assert result.report
    assert (result.report.asked_again, result.report.cost_usd) == (1, 1.0)
    assert (result.starts, result.exit_code) == (1, 0)
    assert read_run(a_request(), result).state is StageState.COMPLETED
    assert "--resume s-1" in tmp_path.joinpath("again").read_text()
    told = tmp_path.joinpath("told").read_text()
    assert "your answer was not accepted" in told
    assert "`" not in told
    assert await attach(runs.host(), order) == result  # whoever looks later sees the same


async def test_it_is_asked_for_once_alone(runs: Bench, tmp_path: Path) -> None:
    runs.agents["roy"] = claude(tmp_path, asked('echo x >> count; echo "$PROSE"'))

    result = await attach(runs.host(), runs.order(worktree=str(tmp_path)))

    failure = read_run(a_request(), result).failure
    assert failure
    assert "It was asked for once more, without success." in failure.error
    assert tmp_path.joinpath("count").read_text() == "x\n"
    assert runs.host().used == 0


async def test_another_worker_goes_on_asking(runs: Bench, tmp_path: Path) -> None:
    wait = 'echo x >> count; while ! test -e go; do sleep 0.05; done; echo "$RESULT"'
    runs.agents["roy"] = claude(tmp_path, asked(wait))
    order = runs.order(worktree=str(tmp_path))
    killed = asyncio.create_task(attach(runs.host(), order))
    await eventually(tmp_path.joinpath("count").exists, "the second question")
    killed.cancel()

    following = asyncio.create_task(attach(runs.host(), order))
    tmp_path.joinpath("go").touch()
    result = await following

    assert read_run(a_request(), result).state is StageState.COMPLETED
    assert tmp_path.joinpath("count").read_text() == "x\n"


async def test_what_is_ended_is_not_asked_again(runs: Bench, tmp_path: Path) -> None:
    runs.agents["roy"] = claude(tmp_path, asked("touch asking; sleep 600"))
    host, order = runs.host(), runs.order(worktree=str(tmp_path))
    following = asyncio.create_task(attach(host, order))
    await eventually(tmp_path.joinpath("asking").exists, "the second question")

    results = await host.end_all("REQ-1/wf-1")
    result = await following

    assert list(results) == [order.run_id]
    assert result.end is RunEnd.CANCELLED
    assert result.report
    assert result.report.cost_usd == 0.5
    assert host.used == 0


async def test_a_run_that_is_ended_before_its_answer_is_asked_nothing(
    runs: Bench, tmp_path: Path
) -> None:
    script = asked("touch asking").replace('echo "$PROSE"', 'echo "$PROSE"; sleep 600')
    runs.agents["roy"] = claude(tmp_path, script)
    host, order = runs.host(), runs.order(worktree=str(tmp_path))
    following = asyncio.create_task(attach(host, order))
    log = runs.directory(order).file(records.STDOUT)
    await eventually(lambda: log.exists() and log.stat().st_size > 0, "its prose")

    await host.end(order.run_id)
    result = await following

    assert result.end is RunEnd.CANCELLED
    assert not tmp_path.joinpath("asking").exists()


# --- a fourth kind: one file, and one line --------------------------------------------------------


class Fourth:
    """A whole adapter; its program prints what Claude Code does."""

    kind = "fourth"
    takes_schema = True
    counts_sessions = False
    traits = ProgramTraits("fourth-cli", {"max_turns": "it takes none"})
    last_events = ('{"type":"result"',)

    def launch(self, agent: ProgramAgent, task: Task) -> Launch:
        resume = ("--resume", task.session) if task.resumes else ()
        return Launch(
            (agent.program, "--schema", str(task.run_directory / "schema.json"), *resume),
            stop=(StopStep("SIGTERM", "group", 1.0),),
            passed_on=("FOURTH_KEY",),
            variables={"FOURTH_QUIET": "1"},
            files={"schema.json": task.schema},
        )

    def stream(self) -> ClaudeStream:
        return ClaudeStream()

    def readable(self, event: Event) -> Iterator[str]:
        yield str(event.get("type"))

    def login(self, ask: Asked) -> tuple[Login, str]:
        return Login.UNKNOWN, ""


@pytest.fixture
def fourth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PROGRAMS, "fourth", Fourth())


@pytest.mark.usefixtures("fourth")
async def test_a_fourth_kind_is_one_adapter_and_its_place_in_the_table(
    runs: Bench, tmp_path: Path
) -> None:
    program(tmp_path, 'echo "$@" > arguments; cp "$2" given; echo "$RESULT"')
    file = tmp_path / "agents.toml"
    file.write_text(
        '[defaults]\nkind = "fourth"\nprogram = "./program"\npermissions = "everything"\n'
        'account = "work"\n'
    )
    runs.agents.update(find_agents(file).agents)
    agent = runs.agents["roy"]
    assert isinstance(agent, ProgramAgent)
    assert agent.permission is Permission.EVERYTHING

    result = await attach(runs.host(), order := runs.order())

    assert result.report
    assert (result.report.ending, result.report.account) == (Ending.SUCCESS, "work")
    assert read_run(a_request(), result).state is StageState.COMPLETED
    schema = json.loads(runs.directory(order).path.joinpath("given").read_text())
    assert schema["properties"]["agent"] == {"type": "string", "enum": ["roy"]}
