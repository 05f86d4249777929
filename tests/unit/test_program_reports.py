import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.codex import reset_time
from adapters.agent_programs.program import ProcessEnd
from adapters.agent_programs.stream import LINE_LIMIT, read_report, together
from pipeline.answers import read_run
from pipeline.endings import MEANINGS, Blame, account_of, explained
from pipeline.model import Ending, FailureKind, ProgramReport, RunEnd, StageState, Tokens
from tests.agents.recorded import readable, recorded, report_of, result_of
from tests.agents.scenarios import RESET, SCENARIOS
from tests.unit.test_answers import a_request

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
INIT = {"type": "system", "subtype": "init", "session_id": "s-1", "model": "m"}
RESULT = {
    **{"type": "result", "subtype": "success", "is_error": False, "result": "Done."},
    **{"session_id": "s-1", "total_cost_usd": 0.5, "permission_denials": []},
    "structured_output": {"status": "COMPLETE"},
}


def read(
    kind: str,
    *events: object,
    folder: Path,
    exit_code: int | None = 0,
    errors: str = "",
    end: RunEnd = RunEnd.EXITED,
) -> ProgramReport:
    output = folder / "stdout"
    lines = (each if isinstance(each, str) else json.dumps(each) for each in events)
    output.write_text("".join(f"{line}\n" for line in lines))
    return read_report(PROGRAMS[kind], output, ProcessEnd(kind, "", end, exit_code, errors, NOW))


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_recorded_run_ends_as_it_did(name: str, tmp_path: Path) -> None:
    report = report_of(name, tmp_path)

    assert report.ending is SCENARIOS[name].ending
    assert SCENARIOS[name].detail in report.detail


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.endswith(" works")])
def test_a_recorded_run_that_works_is_a_green_stage(name: str, tmp_path: Path) -> None:
    result = result_of(name, tmp_path)

    assert read_run(a_request(), result).state is StageState.COMPLETED
    # 3 requests of 1,000 tokens, 200 of them cached, and 50 of the answer.
    assert result.report
    assert result.report.tokens == Tokens(3000, 150, 600)
    assert result.report.session


def test_costs_are_those_that_the_program_tells(tmp_path: Path) -> None:
    # 2,400 fresh tokens at $5 a million, 600 cached at $0.5, 150 written at $25.
    assert report_of("claude-code works", tmp_path).cost_usd == pytest.approx(0.01605)
    assert report_of("codex works", tmp_path).cost_usd is None


def answer(message: str, *, model: str = "m", **usage: int) -> object:
    said = {"id": message, "model": model, "usage": usage, "content": []}
    return {"type": "assistant", "session_id": "s-1", "message": said}


def test_of_a_claude_that_was_cut_off_is_known_what_it_has_read(tmp_path: Path) -> None:
    """Each part of an answer is an event of its own, with the usage of the whole."""
    begun = answer("1", input_tokens=100, cache_read_input_tokens=900, output_tokens=1)
    events = (
        *(INIT, begun, begun),
        *(answer("2", input_tokens=300, output_tokens=1), answer("3", model="<synthetic>")),
    )
    cut_off = read("claude-code", *events, folder=tmp_path, exit_code=None, end=RunEnd.LOST)

    assert cut_off.ending is Ending.CUT_OFF
    assert cut_off.usage == cut_off.to_estimate == {"m": Tokens(1300, 2, 900)}


def test_dollars_of_one_part_do_not_stand_for_those_of_the_other(tmp_path: Path) -> None:
    used = {"modelUsage": {"m": {"inputTokens": 10, "outputTokens": 5}}}
    cut_off = read("claude-code", INIT, answer("1", input_tokens=300), folder=tmp_path)
    again = read("claude-code", INIT, {**RESULT, **used}, folder=tmp_path)
    whole = together(cut_off, again)

    assert (whole.cost_usd, whole.tokens) == (0.5, Tokens(310, 5))
    assert whole.to_estimate == {"m": Tokens(300)}
    assert together(again, again).to_estimate == {}


@pytest.mark.parametrize("kind", ["claude-code", "codex"])
def test_a_used_up_plan_tells_until_when(kind: str, tmp_path: Path) -> None:
    report = report_of(f"{kind} has used up its plan", tmp_path)

    assert report.until is not None
    # Codex tells it in the zone of the machine that it ran on.
    assert abs(report.until - datetime.fromtimestamp(RESET, UTC)) <= timedelta(hours=14)
    assert account_of(report) == "work"
    assert "until 2" in explained(report)


def test_endings_of_the_account_are_nobodys_failure(tmp_path: Path) -> None:
    for name, scenario in SCENARIOS.items():
        reading = read_run(a_request(), result_of(name, tmp_path))
        if MEANINGS[scenario.ending].blame in (Blame.ACCOUNT_WAITS, Blame.ACCOUNT_ASKS):
            assert reading.failure, name
            assert not reading.failure.kind.is_red, name
            assert scenario.detail in reading.failure.error, name


def test_every_ending_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Ending)


def test_a_missing_answer_names_what_was_denied(tmp_path: Path) -> None:
    failure = read_run(a_request(), result_of("gemini is denied", tmp_path)).failure

    assert failure
    assert failure.kind is FailureKind.NOTICE
    assert "Denied: run_shell_command curl x" in failure.error


def test_lines_after_the_result_change_nothing_of_it(tmp_path: Path) -> None:
    after = {"type": "system", "subtype": "task_notification", "status": "stopped"}

    report = read("claude-code", INIT, RESULT, after, folder=tmp_path)

    assert report.ending is Ending.SUCCESS
    assert report.answer == {"status": "COMPLETE"}
    assert report.cost_usd == 0.5


def test_success_that_is_an_error_is_none(tmp_path: Path) -> None:
    error = {**RESULT, "is_error": True, "api_error_status": 400, "result": "Prompt is too long"}

    assert read("claude-code", INIT, error, folder=tmp_path).ending is Ending.API_ERROR


def test_a_stream_without_an_end_is_cut_off_whatever_its_exit_code(tmp_path: Path) -> None:
    for kind in PROGRAMS:
        for exit_code in (0, 1, 143, -9):
            report = read(kind, INIT, folder=tmp_path, exit_code=exit_code)
            assert report.ending in (Ending.CUT_OFF, Ending.REFUSED_START), (kind, exit_code)
    assert read("claude-code", INIT, folder=tmp_path, exit_code=1).ending is Ending.CUT_OFF


def test_noise_is_skipped_and_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    strange: list[object] = [
        *("not json", "{broken", '{"type": ["result"]}', '{"type": "result", "result": 7}', "[]"),
        {"type": "assistant", "message": {"content": "text"}},
        {"type": "assistant", "message": None},
        {"type": "user", "message": {"content": [7, {"type": "tool_result", "content": [1]}]}},
        {"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "resetsAt": "x"}},
        {"type": "item.completed", "item": []},
        {"type": "turn.completed", "usage": {"input_tokens": "many"}},
        {"type": "tool_result", "error": "none", "tool_id": None},
        {"type": "message", "role": "assistant", "content": None},
        f'{{"type": "assistant", "text": "{"x" * (2 * LINE_LIMIT)}"}}',
        *(INIT, RESULT),
    ]
    for kind in PROGRAMS:
        read(kind, *strange, folder=tmp_path)
    for event in strange:
        if isinstance(event, dict):
            for program in PROGRAMS.values():
                list(program.readable(event))
    assert read("claude-code", *strange, folder=tmp_path).ending is Ending.SUCCESS


def test_codex_counts_for_success_only_with_its_exit_code(tmp_path: Path) -> None:
    events = (
        {"type": "thread.started", "thread_id": "t-1"},
        {"type": "item.completed", "item": {"type": "error", "message": "a warning"}},
        {"type": "item.completed", "item": {"type": "agent_message", "text": '{"a": 1}'}},
        {"type": "turn.completed", "usage": {"input_tokens": 5, "output_tokens": 2}},
    )

    good = read("codex", *events, folder=tmp_path)
    bad = read("codex", *events, folder=tmp_path, exit_code=101, errors="panicked")

    assert (good.ending, good.answer, good.session) == (Ending.SUCCESS, {"a": 1}, "t-1")
    assert (bad.ending, bad.answer, bad.detail) == (Ending.FAILED, None, "panicked")


def test_codex_without_a_sandbox_is_no_success(tmp_path: Path) -> None:
    failed = {
        "type": "command_execution",
        "exit_code": 1,
        "status": "failed",
        "aggregated_output": "bwrap: Creating new namespace failed: Operation not permitted\n",
    }
    events = (
        {"type": "thread.started", "thread_id": "t-1"},
        {"type": "item.completed", "item": failed},
        {"type": "turn.completed", "usage": {}},
    )

    assert read("codex", *events, folder=tmp_path).ending is Ending.NO_SANDBOX


@pytest.mark.parametrize(
    ("message", "after"),
    [
        ("try again in 2 hours 5 minutes.", timedelta(hours=2, minutes=5)),
        ("try again in 3 days.", timedelta(days=3)),
    ],
)
def test_a_reset_may_be_told_as_a_span(message: str, after: timedelta) -> None:
    assert reset_time(message, NOW) == NOW + after


def test_a_reset_told_as_a_time_of_day_is_the_next_one() -> None:
    local = NOW.astimezone()
    soon, past = local + timedelta(minutes=5), local - timedelta(minutes=5)

    assert reset_time(f"or try again at {soon:%I:%M %p}.", NOW) == soon
    assert reset_time(f"or try again at {past:%I:%M %p}.", NOW) == past + timedelta(days=1)
    assert reset_time("It is over.", NOW) is None


def test_a_gemini_error_is_known_by_its_exit_code(tmp_path: Path) -> None:
    failed = {"type": "result", "status": "error", "error": {"message": "[API Error: unknown]"}}

    endings = [
        read("gemini", failed, folder=tmp_path, exit_code=status % 256).ending
        for status in (400, 401, 404, 429, 503)
    ]

    assert endings == [
        *(Ending.API_ERROR, Ending.LOGIN_REFUSED, Ending.UNKNOWN_MODEL),
        *(Ending.OVERLOADED, Ending.OVERLOADED),
    ]


def test_a_program_that_hangs_after_its_answer_has_answered(tmp_path: Path) -> None:
    late = replace(result_of("claude-code works", tmp_path), end=RunEnd.TIMED_OUT, exit_code=None)
    silent = replace(result_of("codex is stopped", tmp_path), end=RunEnd.TIMED_OUT)

    assert read_run(a_request(), late).state is StageState.COMPLETED
    failure = read_run(a_request(), silent).failure
    assert failure
    assert failure.kind is FailureKind.TIMEOUT


@pytest.mark.parametrize("name", [name for name in SCENARIOS if name.endswith(" works")])
def test_a_log_shows_tools_and_results(name: str) -> None:
    shown = "\n".join(readable(name))

    assert "touch ran" in shown
    assert "hello.txt" in shown
    assert "» session" in shown
    assert recorded(name)["output"][0] not in shown


@pytest.mark.parametrize(
    ("events", "end", "said"),
    [
        # Cut off, it goes on waiting in its session; with its deliverable it is asked no more.
        ([], RunEnd.LOST, (Ending.CUT_OFF, "s-1", False)),
        ([{"type": "sent", "item": "s-1"}], RunEnd.LOST, (Ending.CUT_OFF, "s-1", True)),
        ([{"type": "failed", "detail": "No."}], RunEnd.EXITED, (Ending.HANDOVER, "s-1", False)),
        (
            [{"type": "sent", "item": "s-1"}, {"type": "unserved", "detail": "Nobody."}],
            RunEnd.EXITED,
            (Ending.UNSERVED, "", False),
        ),
        (
            [
                {"type": "sent", "item": "s-1"},
                {
                    "type": "result",
                    "deliverable": {
                        **{"runId": "r", "agent": "roy", "reqNumber": "REQ-1"},
                        **{"ending": "success", "costUsd": 0.5, "usage": {"m": [3, 2, 1]}},
                    },
                },
            ],
            RunEnd.EXITED,
            (Ending.SUCCESS, "", False),
        ),
    ],
)
def test_a_remote_run_waits_in_its_session_until_it_has_its_deliverable(
    events: list[object], end: RunEnd, said: tuple[Ending, str, bool], tmp_path: Path
) -> None:
    output = tmp_path / "stdout"
    output.write_text("".join(f"{json.dumps(each)}\n" for each in events))

    report = read_report(PROGRAMS["nats"], output, ProcessEnd("nats", "s-1", end, 0, "", NOW))

    assert (report.ending, report.session, report.has_worked) == said
    if report.ending is Ending.SUCCESS:
        assert (report.cost_usd, report.usage) == (0.5, {"m": Tokens(3, 2, 1)})
