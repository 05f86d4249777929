"""Known programs as agents: scripts that print as the real ones do, under the real supervisor."""

import asyncio
import json
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.claude_code import ClaudeStream
from adapters.agent_programs.probes import Asked
from adapters.agent_programs.program import Event, Launch, StopStep, Task
from adapters.runs import records, supervisor
from adapters.runs.directory import ANSWER, RESUMED, RunDirectory
from adapters.user_files import find_agents
from pipeline.agent_programs import Permission, ProgramAgent, ProgramTraits
from pipeline.answers import read_run
from pipeline.endings import LIMITS, LOSSES
from pipeline.model import Ending, FailureKind, RunEnd, StageState
from pipeline.project_proposal import Login
from pipeline.team import TEAM, Agent, Role
from pipeline.verdicts import green_notice
from tests.eventually import eventually
from tests.fixtures_runs import Bench, attach, follow
from tests.unit.test_answers import a_request

RESULT = {
    **{"type": "result", "subtype": "success", "is_error": False, "result": "Done."},
    **{"session_id": "s-1", "total_cost_usd": 0.5, "permission_denials": []},
    "structured_output": green_notice(TEAM["roy"], "REQ-1"),
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


async def test_an_agent_that_its_plan_declares_is_asked_again_as_such(
    runs: Bench, tmp_path: Path
) -> None:
    runs.agents["mia"] = claude(tmp_path, asked('echo "$PROSE"'))
    mia = Agent("mia", Role.QA, "qa-mobile", "mobile", raises=("needs_ada",))
    order = runs.order(agent="mia", declared=mia, worktree=str(tmp_path))

    result = await attach(runs.host(), order)

    assert result.report
    assert result.report.asked_again == 1
    assert "needs_ada" in tmp_path.joinpath("again").read_text()  # it is in the schema
    (first, second) = (each.order() for each in runs.directory(order).parts())
    assert first
    assert second
    assert first.member == second.member == mia


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


# --- a session that was cut off goes on -----------------------------------------------------------

WORKED = {"type": "assistant", "session_id": "s-1", "message": {"model": "m", "content": []}}
LIMITED = {
    **{"type": "result", "subtype": "success", "is_error": True, "session_id": "s-1"},
    **{"api_error_status": 529, "result": "Overloaded.", "total_cost_usd": 0.25},
}
NOBODY = {
    "type": "result",
    "subtype": "error_during_execution",
    "errors": ["No conversation found"],
}
RESUMING = "\n".join(
    [
        *(f"{name}='{json.dumps(said, separators=(',', ':'))}'" for name, said in (
            ("WORKED", WORKED), ("LIMITED", LIMITED), ("NOBODY", NOBODY),
        )),
        'case "$*" in *--resume*) echo "$*" >> resumed; cat > told; GOING',
        ';; *) echo x >> begun; echo mine > work; echo "$WORKED"; BEGUN',
        ";; esac",
    ]
)  # fmt: skip


def resuming(begun: str, going: str) -> str:
    """A program that works and does `begun`; in its resumed session it does `going`."""
    return RESUMING.replace("BEGUN", begun).replace("GOING", going)


async def kill_all(run: RunDirectory) -> None:
    """End supervisor and agent as a power cut does: nobody records anything."""
    await eventually(lambda: run.last.file(records.STDOUT).exists(), "its work")
    await eventually(lambda: run.last.file(records.STDOUT).stat().st_size > 0, "its work")
    identity = run.last.identity()
    os.kill(identity["supervisor"], signal.SIGKILL)
    with suppress(ProcessLookupError):  # its host may have seen that already, and have ended it
        os.killpg(identity["group"], signal.SIGKILL)


async def test_a_session_that_was_lost_with_its_host_goes_on_in_its_clone(
    runs: Bench, tmp_path: Path
) -> None:
    runs.agents["roy"] = claude(tmp_path, resuming("sleep 600", 'cat work; echo "$RESULT"'))
    order = runs.order(worktree=str(tmp_path))
    run = runs.directory(order)
    following = asyncio.create_task(attach(runs.host(), order))
    await kill_all(run)
    first = await following
    assert (first.end, first.is_resumable) == (RunEnd.LOST, True)

    result = await follow(runs.host(), order)

    assert read_run(a_request(), result).state is StageState.COMPLETED
    assert (result.starts, result.resumes, result.is_resumable) == (1, 1, False)
    assert tmp_path.joinpath("begun").read_text() == "x\n"
    assert "--resume s-1" in tmp_path.joinpath("resumed").read_text()
    told = tmp_path.joinpath("told").read_text()
    assert "Go on where you stopped" in told
    assert "cut off half-way" in told
    assert result.report
    assert result.report.asked_again == 0
    # Between its parts it did not work.
    assert len(result.suspensions) == 2
    assert runs.host().used == 0
    assert [part.purpose for part in run.parts()] == ["", RESUMED]


@pytest.mark.parametrize("begun", ['echo "$LIMITED"; exit 1', "kill -9 $$"])
async def test_a_program_that_was_cut_off_goes_on(begun: str, runs: Bench, tmp_path: Path) -> None:
    runs.agents["roy"] = claude(tmp_path, resuming(begun, 'echo "$RESULT"'))

    result = await follow(runs.host(), runs.order(worktree=str(tmp_path)))

    assert read_run(a_request(), result).state is StageState.COMPLETED
    assert (result.starts, result.resumes) == (1, 1)
    assert result.report
    assert result.report.cost_usd == (0.75 if "LIMITED" in begun else 0.5)


@pytest.mark.parametrize(
    ("begun", "limit"), [("kill -9 $$", LOSSES), ('echo "$LIMITED"; exit 1', LIMITS)]
)
async def test_a_session_that_is_cut_off_again_and_again_is_given_up(
    begun: str, limit: int, runs: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = {LOSSES: "LOSSES", LIMITS: "LIMITS"}[limit]
    monkeypatch.setattr(f"pipeline.endings.{few}", 2)
    runs.agents["roy"] = claude(tmp_path, resuming(begun, begun))

    result = await follow(runs.host(), runs.order(worktree=str(tmp_path)))

    assert result.resumes == 2
    assert tmp_path.joinpath("begun").read_text() == "x\n"
    failure = read_run(a_request(), result).failure
    assert failure
    assert failure.kind is (FailureKind.CRASH if "kill" in begun else FailureKind.LIMITED)


async def test_a_session_that_the_program_does_not_know_any_more_is_given_up(
    runs: Bench, tmp_path: Path
) -> None:
    refuse = 'echo "$NOBODY"; exit 1'
    runs.agents["roy"] = claude(tmp_path, resuming('echo "$LIMITED"; exit 1', refuse))

    result = await follow(runs.host(), runs.order(worktree=str(tmp_path)))

    assert (result.end, result.starts, result.resumes) == (RunEnd.LOST, 1, 0)
    failure = read_run(a_request(), result).failure
    assert failure
    assert failure.kind is FailureKind.INFRASTRUCTURE
    assert failure.error == "The session s-1 could not be resumed: No conversation found"


async def test_a_session_in_which_nothing_was_done_starts_anew(runs: Bench, tmp_path: Path) -> None:
    script = resuming("true", "true").replace('echo "$WORKED"; ', 'echo "$LIMITED"; exit 1; ')
    runs.agents["roy"] = claude(tmp_path, script)

    result = await attach(runs.host(), runs.order(worktree=str(tmp_path)))

    assert not result.is_resumable
    assert result.report
    assert result.report.ending is Ending.OVERLOADED


async def test_two_workers_resume_a_session_once(runs: Bench, tmp_path: Path) -> None:
    going = 'while ! test -e go; do sleep 0.05; done; echo "$RESULT"'
    runs.agents["roy"] = claude(tmp_path, resuming("kill -9 $$", going))
    order, hosts = runs.order(worktree=str(tmp_path)), (runs.host(), runs.host())
    assert (await attach(hosts[0], order)).is_resumable

    following = [asyncio.create_task(follow(host, order)) for host in hosts]
    await eventually(tmp_path.joinpath("told").exists, "the resumed session")
    tmp_path.joinpath("go").touch()
    first, second = await asyncio.gather(*following)

    assert first == second
    assert first.resumes == 1
    assert len(tmp_path.joinpath("resumed").read_text().splitlines()) == 1


async def test_a_session_whose_agent_is_of_another_kind_now_is_given_up(
    runs: Bench, tmp_path: Path
) -> None:
    runs.agents["roy"] = claude(tmp_path, resuming("kill -9 $$", "true"))
    host, order = runs.host(), runs.order(worktree=str(tmp_path))
    first = await attach(host, order)
    await host.let_resume(order.run_id, first.parts)
    assert await host.next_part(order.run_id) == 1

    runs.shell("true")

    assert await host.next_part(order.run_id) is None
    result = await attach(host, order)
    assert (result.end, result.is_resumable) == (RunEnd.LOST, False)
    assert "its agent or its clone is another one now" in result.reason


async def test_a_resumed_session_has_the_time_that_was_left_and_can_be_given_more(
    runs: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.agent_programs.claude_code.STOP_SECONDS", 0.2)
    runs.agents["roy"] = claude(tmp_path, resuming("kill -9 $$", "sleep 600"))
    order = runs.order(worktree=str(tmp_path), deadline=timedelta(hours=2))
    run = runs.directory(order)
    host = runs.host()
    await attach(host, order)
    write_exit(run, worked=timedelta(hours=1))
    following = asyncio.create_task(follow(host, order))
    await eventually(tmp_path.joinpath("told").exists, "the resumed session")

    assert deadline_of(run.last) == pytest.approx(3600, abs=5)
    await host.extend(order.run_id, timedelta(hours=3))

    assert deadline_of(run.last) == pytest.approx(7200, abs=5)
    await host.end(order.run_id)
    assert (await following).end is RunEnd.CANCELLED


@pytest.mark.parametrize(
    ("most", "at_resumption", "handed", "for_the_answer"),
    [
        (4.0, 4.0, "3.75", "3.25"),
        (4.0, 2.0, "1.75", "1.25"),  # others have spent of the requirement's budget meanwhile
        (0.5, 0.5, "0.25", "0.01"),
        (0.2, 0.2, "0.01", "0.01"),
        (None, None, "9.75", "9.25"),
    ],
)
async def test_a_session_that_goes_on_may_cost_what_its_run_has_left(
    runs: Bench,
    tmp_path: Path,
    most: float | None,
    at_resumption: float | None,
    handed: str,
    for_the_answer: str,
) -> None:
    prose = f"echo '{json.dumps({**PROSE, 'total_cost_usd': 0.5})}'"
    going = f'case "$(cat told)" in *accepted*) echo "$RESULT";; *) {prose};; esac'
    script = resuming('echo "$LIMITED"; exit 1', going)  # after 0.25 dollars
    runs.agents["roy"] = claude(tmp_path, script, max_budget_usd=10.0)
    host, order = runs.host(), runs.order(worktree=str(tmp_path), most_usd=most)
    first = await attach(host, order)
    await host.let_resume(order.run_id, first.parts)

    await attach(host, runs.order(worktree=str(tmp_path), most_usd=at_resumption))

    lines = tmp_path.joinpath("resumed").read_text().splitlines()
    told = [line.partition("--max-budget-usd ")[2].split()[0] for line in lines]
    assert told == [handed, for_the_answer]


def write_exit(run: RunDirectory, worked: timedelta) -> None:
    """Let a run that has ended have worked for so long."""
    fields = json.loads(run.file(records.EXIT).read_text())
    ended = datetime.fromisoformat(fields["started_at"]) + worked
    run.file(records.EXIT).write_text(json.dumps({**fields, "ended_at": ended.isoformat()}))


def deadline_of(part: RunDirectory) -> float:
    record = part.order()
    assert record
    return part.deadline_seconds(record)


async def test_a_resumed_session_that_does_not_answer_is_asked_once_more(
    runs: Bench, tmp_path: Path
) -> None:
    going = (
        f'case "$(cat told)" in *accepted*) echo "$RESULT";; *) echo \'{json.dumps(PROSE)}\';; esac'
    )
    runs.agents["roy"] = claude(tmp_path, resuming("kill -9 $$", going))

    result = await follow(runs.host(), order := runs.order(worktree=str(tmp_path)))

    assert read_run(a_request(), result).state is StageState.COMPLETED
    assert result.report
    assert (result.resumes, result.report.asked_again) == (1, 1)
    assert [part.purpose for part in runs.directory(order).parts()] == ["", RESUMED, ANSWER]


# --- a fourth kind: one file, and one line --------------------------------------------------------


class Fourth:
    """A whole adapter; its program prints what Claude Code does."""

    kind = "fourth"
    takes_schema = True
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

    def copyable(self, session: str, environment: Mapping[str, str]) -> str:
        return ""

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
