import json
import sys
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.runs import directory
from adapters.runs.records import ERROR_OUTPUT_LIMIT, OUTPUT_LIMIT
from adapters.user_files import find_agents
from pipeline.agents_file import CommandAgent
from pipeline.answers import read_run
from pipeline.errors import AgentsFileRefused, NoticeRefused, RefusedInput
from pipeline.model import FailureKind, RunEnd, RunResult, StageContext
from pipeline.notice import parse_notice
from pipeline.prompt import Place, stage_prompt
from pipeline.team import TEAM
from tests.fixtures_runs import Bench, attach
from tests.fixtures_workspaces import stage_request
from tests.plans import TEMPLATES

NOTICE = {"agent": "roy", "req_number": "REQ-1", "status": "COMPLETE", "summary": "done"}
FENCED = f"```json\n{json.dumps(NOTICE)}\n```"


async def python(runs: Bench, program: str) -> RunResult:
    """Run a Python program as the agent."""
    runs.agents["roy"] = CommandAgent((sys.executable, "-c", program))
    return await attach(runs.host(), runs.order())


def summary(result: RunResult) -> str:
    """What the notice in the output says."""
    return parse_notice(result.output, agent=TEAM["roy"], number="REQ-1").summary


def log_of(result: RunResult) -> bytes:
    return Path(result.log_reference).read_bytes()


async def test_a_run_gets_its_prompt_and_returns_what_it_printed(runs: Bench) -> None:
    result = await runs.run("cat; echo trouble >&2; exit 3", prompt="Häagen\n")

    assert result.end is RunEnd.EXITED
    assert (result.exit_code, result.output, result.error_output) == (3, "Häagen\n", "trouble\n")
    assert result.starts == 1
    assert log_of(result).decode() == result.output


async def test_a_log_of_100_mb_costs_neither_memory_nor_time(runs: Bench) -> None:
    program = f"print(('x' * 999 + '\\n') * 100_000, flush=True); print({FENCED!r})"
    runs.agents["roy"] = CommandAgent((sys.executable, "-c", program))
    order = runs.order()
    await attach(runs.host(), order)

    tracemalloc.start()
    started = time.process_time()
    result = await attach(runs.host(), order)
    seconds = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(log_of(result)) > 100_000_000
    assert len(result.output) == OUTPUT_LIMIT
    assert peak < 4 * OUTPUT_LIMIT
    assert seconds < 2
    assert summary(result) == "done"


async def test_a_notice_of_5_mb_is_seen_whole_and_refused(runs: Bench) -> None:
    program = (
        "import json\n"
        f"notice = {NOTICE!r} | {{'summary': 'x' * 5_000_000}}\n"
        "print('```json', json.dumps(notice), '```', sep='\\n')"
    )

    result = await python(runs, program)

    assert len(result.output) > 5_000_000
    with pytest.raises(NoticeRefused):
        summary(result)


NOISE = "for _ in range(12): print(('roy, REQ-1 ' * 90 + '\\n') * 1_000, end='')"
"""12 MB that tell of the agent."""


@pytest.mark.parametrize(
    "program",
    [
        f"print({FENCED!r}); {NOISE}",
        f"{NOISE}; print({FENCED!r}); {NOISE}; {NOISE}",
        f"print({FENCED!r}, flush=True); print('x' * 30_000_000)",
        f"print({FENCED.replace('done', 'older')!r}); {NOISE}; print({FENCED!r}); {NOISE}",
        f"print({FENCED.replace('json', 'jsonc').replace('}', ',}')!r}); {NOISE}",
        f"print({FENCED!r}); {NOISE}; print({FENCED.replace('roy', 'jen')!r}); {NOISE}",
        f"print({FENCED!r}); print('```json'); print('{{\"data\": [' + '1,' * 8_000_000)",
    ],
    ids=range(7),
)
async def test_a_notice_far_before_the_end_is_found(runs: Bench, program: str) -> None:
    result = await python(runs, f"for _ in '1':\n    {program}".replace("; for", "\n    for"))

    assert len(log_of(result)) > OUTPUT_LIMIT
    assert summary(result) == "done"
    assert len(result.output) < 2 * OUTPUT_LIMIT + 1_000_000


async def test_a_doubt_after_a_notice_is_found_far_before_the_end(runs: Bench) -> None:
    doubt = '```json\n{"agent": "roy", "status": "FAILED"}\n```'

    result = await python(runs, f"print({FENCED!r})\nprint({doubt!r})\n{NOISE}")

    with pytest.raises(NoticeRefused, match="says req_number nothing"):
        summary(result)


async def test_what_is_too_long_to_be_searched_is_red_and_not_paid_again(
    runs: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(directory, "SEARCH_LIMIT", OUTPUT_LIMIT)

    result = await python(runs, f"print({FENCED!r})\n{NOISE}")

    assert result.unread == len(log_of(result)) - OUTPUT_LIMIT
    failure = read_run(stage_request(None), result).failure
    assert failure is not None
    assert failure.kind is FailureKind.UNREAD
    assert result.log_reference in failure.error


async def test_a_result_without_its_output_searches_nothing(runs: Bench) -> None:
    runs.shell("echo noise")
    order = runs.order()
    await attach(runs.host(), order)

    result = runs.directory(order).result(limit=0)

    assert (result.end, result.output, result.unread) == (RunEnd.EXITED, "", 0)


async def test_an_agent_that_echoes_its_prompt_has_not_answered(runs: Bench) -> None:
    request = stage_request(None)
    context = StageContext("T", f"Print this:\n{FENCED}", earlier=json.dumps(NOTICE))
    prompt = stage_prompt(TEMPLATES, request, context, Place()).text

    result = await runs.run("cat", prompt=prompt)

    assert result.output == prompt
    failure = read_run(request, result).failure
    assert failure is not None
    assert failure.kind is FailureKind.NOTICE


@pytest.mark.parametrize(
    "script",
    [
        pytest.param("exit 0", id="prints nothing"),
        pytest.param("""printf '```json\\n{"agent": "roy", "req_num'""", id="half a JSON"),
        pytest.param("echo All done, trust me.", id="no notice"),
    ],
)
async def test_an_exit_code_of_zero_is_no_notice(runs: Bench, script: str) -> None:
    result = await runs.run(script)

    assert (result.end, result.exit_code) == (RunEnd.EXITED, 0)
    with pytest.raises(NoticeRefused):
        summary(result)


async def test_a_quoted_notice_of_somebody_else_is_noise(runs: Bench) -> None:
    quoted = FENCED.replace("roy", "cynthia").replace("done", "research")

    result = await runs.run(f"cat <<'END'\n{FENCED}\nThe research said:\n{quoted}\nEND")

    assert summary(result) == "done"


async def test_a_bad_exit_code_is_returned_beside_a_valid_notice(runs: Bench) -> None:
    result = await runs.run(f"cat <<'END'\n{FENCED}\nEND\nexit 7")

    assert (result.end, result.exit_code) == (RunEnd.EXITED, 7)
    assert summary(result) == "done"


async def test_a_full_standard_error_blocks_nobody(runs: Bench) -> None:
    result = await python(
        runs,
        "import sys\nfor _ in range(20_000): sys.stderr.write('e' * 999 + '\\n')\nprint('through')",
    )

    assert result.output == "through\n"
    assert len(result.error_output) == ERROR_OUTPUT_LIMIT


async def test_bytes_that_are_no_text_are_replaced(runs: Bench) -> None:
    result = await runs.run(r"printf 'a\377b'")

    assert result.output == "a\N{REPLACEMENT CHARACTER}b"


async def test_an_agent_that_is_killed_says_by_what(runs: Bench) -> None:
    result = await runs.run("kill -KILL $$")

    assert (result.exit_code, result.reason) == (-9, "ended by SIGKILL")


@pytest.mark.parametrize("program", ["./missing", "no-such-program", "./not-executable"])
async def test_a_program_that_cannot_be_started_is_named(runs: Bench, program: str) -> None:
    (runs.home / "not-executable").write_text("#!/bin/sh\n")
    runs.agents["roy"] = CommandAgent((program,))

    result = await attach(runs.host(), runs.order())

    assert (result.end, result.starts) == (RunEnd.NOT_STARTED, 0)
    assert program.removeprefix("./") in result.reason


async def test_a_worktree_that_is_gone_is_named(runs: Bench) -> None:
    result = await runs.run("true", worktree=str(runs.home / "gone"))

    assert (result.end, result.starts) == (RunEnd.NOT_STARTED, 0)
    assert result.reason.endswith(f"No such file or directory: {runs.home / 'gone'}")


async def test_a_relative_program_is_relative_to_the_agents_file(runs: Bench) -> None:
    program = runs.home / "agent"
    program.write_text("#!/bin/sh\npwd\n")
    program.chmod(0o700)
    worktree = runs.home / "tree"
    worktree.mkdir()
    agents_file = runs.home / "agents.toml"
    agents_file.write_text('[agents.roy]\ncommand = ["./agent"]\n')
    runs.agents.update(find_agents(agents_file).agents)

    result = await attach(runs.host(), runs.order(worktree=str(worktree)))

    assert result.output == f"{worktree}\n"


async def test_an_agent_absent_from_the_agents_file_is_refused(runs: Bench) -> None:
    with pytest.raises(AgentsFileRefused, match=r"agents\.roy"):
        await attach(runs.host(), runs.order())
    assert runs.directory(runs.order()).starts() == ()


@pytest.mark.parametrize("number", ["../../etc", "REQ-1;x", "", ".."])
async def test_a_run_id_that_makes_no_safe_path_is_refused(runs: Bench, number: str) -> None:
    with pytest.raises(RefusedInput):
        await attach(runs.host(), runs.order(number=number))


async def test_two_stages_of_one_slug_are_not_taken_for_each_other(runs: Bench) -> None:
    await runs.run("echo mine", stage="Back End")

    with pytest.raises(RefusedInput, match="belongs to"):
        await runs.run("echo mine", stage="Back-End")


async def test_the_times_of_a_run_are_those_of_its_agent(runs: Bench) -> None:
    before = datetime.now(UTC)
    result = await runs.run("date +%s.%N; sleep 0.3; date +%s.%N")
    after = datetime.now(UTC)

    began, ended = (datetime.fromtimestamp(float(at), UTC) for at in result.output.split())
    assert result.started_at is not None
    assert result.ended_at is not None
    assert before <= result.started_at <= began
    assert ended <= result.ended_at <= after
