import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.answers import Reading, read_run, unchanged, why_ask_again
from pipeline.errors import NoticeRefused
from pipeline.failures import ERROR_LIMIT
from pipeline.model import (
    Ending,
    FailureKind,
    Head,
    MergeResult,
    Priority,
    ProgramReport,
    RequirementRef,
    RunEnd,
    RunResult,
    StageRequest,
    StageState,
)
from pipeline.notice import VERDICTS, accept_notice, notice_schema
from pipeline.team import TEAM
from pipeline.verdicts import green_notice
from tests.plans import shipped

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def a_request(stage: str = "Backend Implementation") -> StageRequest:
    return StageRequest(
        RequirementRef("REQ-1", "run"),
        Priority.P2,
        shipped("standard").stage(stage),
        1,
        Head("c0ffee", 3),
        100.0,
    )


def a_result(
    end: RunEnd = RunEnd.EXITED,
    exit_code: int | None = 0,
    *,
    agent: str = "roy",
    stderr: str = "",
    **notice: object,
) -> RunResult:
    body = json.dumps({**green_notice(TEAM[agent], "REQ-1"), **notice})
    return RunResult(end, exit_code, f"```json\n{body}\n```", stderr, NOW, NOW, 1, "runs/x/stdout")


def test_valid_notice_of_a_clean_exit_completes() -> None:
    reading = read_run(a_request(), a_result())

    assert (reading.state, reading.failure) == (StageState.COMPLETED, None)


def test_complete_with_a_failing_exit_is_not_green_and_not_retried() -> None:
    reading = read_run(a_request(), a_result(exit_code=3))

    assert reading.state is StageState.FAILED
    assert reading.failure
    assert reading.failure.kind is FailureKind.FAILED
    assert not reading.failure.kind.is_unanswered


def test_timeout_counts_whatever_was_printed() -> None:
    reading = read_run(a_request(), a_result(RunEnd.TIMED_OUT, None))

    assert reading.notice is None
    assert reading.failure
    assert (reading.failure.kind, reading.failure.owners) == (FailureKind.TIMEOUT, ("roy",))


@pytest.mark.parametrize("end", [RunEnd.LOST, RunEnd.CANCELLED])
def test_run_ended_from_outside_is_nobodys_failure(end: RunEnd) -> None:
    reading = read_run(a_request(), a_result(end, None))

    assert reading.failure
    assert (reading.failure.kind, reading.failure.owners) == (FailureKind.INFRASTRUCTURE, ())


def test_run_that_died_while_suspended_is_nobodys_failure_and_says_so() -> None:
    dead = replace(a_result(RunEnd.LOST, None), pre_empted=True, reason="its supervisor was killed")
    reading = read_run(a_request(), dead)

    assert reading.failure
    assert (reading.failure.kind, reading.failure.owners) == (FailureKind.PRE_EMPTED, ())
    assert reading.failure.error == (
        "It died while it was suspended, and is run again: its supervisor was killed"
    )


def test_program_that_cannot_be_started_is_refused_at_once() -> None:
    reading = read_run(a_request(), a_result(RunEnd.NOT_STARTED, None))

    assert reading.failure
    assert reading.failure.kind is FailureKind.REFUSED
    assert not reading.failure.kind.is_unanswered


def test_program_that_failed_without_a_notice_crashed() -> None:
    result = a_result(exit_code=139, agent="jen", stderr="Segmentation fault")
    reading = read_run(a_request(), result)

    assert reading.failure
    assert reading.failure.kind is FailureKind.CRASH
    assert "exited with 139" in reading.failure.error
    assert "Segmentation fault" in reading.failure.error


def test_refused_notice_of_a_clean_exit_names_its_reason() -> None:
    reading = read_run(a_request(), a_result(status="DONE"))

    assert reading.failure
    assert reading.failure.kind is FailureKind.NOTICE
    assert "DONE" in reading.failure.error


def test_failure_says_where_to_look() -> None:
    reading = read_run(
        a_request("Backend QA"), a_result(agent="billy", test_result="FAIL", failures=["x" * 9000])
    )

    assert reading.failure
    assert reading.failure.log_reference == "runs/x/stdout"
    assert len(reading.failure.error) <= ERROR_LIMIT


def test_an_answer_that_was_not_found_in_too_long_an_output_asks_a_human() -> None:
    silent = replace(a_result(), output="noise", unread=3_000_000_000)
    reading = read_run(a_request(), silent)

    assert reading.failure
    assert reading.failure.kind is FailureKind.UNREAD
    assert not reading.failure.kind.is_unanswered
    assert not reading.failure.kind.is_of_run
    assert "its first 3000 MB were not searched" in reading.failure.error
    assert "runs/x/stdout" in reading.failure.error
    assert read_run(a_request(), replace(a_result(), unread=1)).failure is None


MERGED = MergeResult(Head("c0ffee", 3), "c0ffee", changed=False)


def answered(
    stage: str = "Backend Implementation", agent: str = "roy", no_changes_needed: object = ""
) -> Reading:
    result = a_result(agent=agent, no_changes_needed=no_changes_needed)
    return read_run(a_request(stage), result)


@pytest.mark.parametrize("reason", ["", " ", None, True, False, "none", "-"])
def test_an_implementation_that_changes_nothing_must_say_why(reason: object) -> None:
    failure = unchanged(a_request(), answered(no_changes_needed=reason), MERGED)

    assert failure
    assert (failure.kind, failure.owners) == (FailureKind.FAILED, ("roy",))
    assert failure.gate == "run Backend Implementation"
    assert "roy says COMPLETE, but has changed no file" in failure.error
    assert "no_changes_needed" in failure.error
    assert not failure.kind.is_unanswered


@pytest.mark.parametrize(
    ("reading", "merge"),
    [
        (answered(no_changes_needed="The greeter knows French already."), MERGED),
        (answered(no_changes_needed=""), replace(MERGED, changed=True)),
        (answered(no_changes_needed=""), replace(MERGED, conflicts=("a",))),
        (answered(no_changes_needed=""), replace(MERGED, refusal="git says no")),
    ],
)
def test_who_changed_something_or_says_why_not_is_not_asked(
    reading: Reading, merge: MergeResult
) -> None:
    assert unchanged(a_request(), reading, merge) is None


def test_only_implementers_must_change_something() -> None:
    for stage in shipped("standard").stages:
        reading = answered(stage.name, stage.agent)
        asked = unchanged(a_request(stage.name), reading, MERGED) is not None
        assert asked == (stage.agent in ("roy", "jen"))


def test_a_crash_quotes_the_last_lines_of_output_and_errors() -> None:
    printed = "".join(f"line {n}\n" for n in range(100))
    result = replace(a_result(exit_code=1, stderr="warning\n\nfatal: no disk\n"), output=printed)

    failure = read_run(a_request(), result).failure

    assert failure
    assert failure.kind is FailureKind.CRASH
    assert failure.error.startswith("The agent exited with 1.")
    assert failure.error.endswith(
        "Its last errors:\nwarning\nfatal: no disk\n"
        "Its last output:\nline 94\nline 95\nline 96\nline 97\nline 98\nline 99"
    )
    # `status` shows the first 15 lines of an error.
    assert len(failure.error.splitlines()) <= 15


def test_an_answer_by_schema_is_accepted_by_the_rules_of_a_notice() -> None:
    notice = {**green_notice(TEAM["billy"], "REQ-1"), "owner": None, "failures": []}

    accepted = accept_notice(notice, agent=TEAM["billy"], number="REQ-1")

    assert accepted.test_result == "PASS"
    assert "owner" not in accepted.raw
    for change, reason in (
        ({"agent": "liz"}, "says agent 'liz', not 'billy'"),
        ({"req_number": "REQ-2"}, "says req_number 'REQ-2', not 'REQ-1'"),
        ({"status": "DONE"}, "unknown status 'DONE'"),
        ({"test_result": "GREEN"}, "unknown test_result 'GREEN'"),
        ({"summary": None}, "summary is missing"),
        ({"summary": "a\0b"}, "null character"),
        ({"summary": "x" * 300_000}, "bytes, at most"),
    ):
        with pytest.raises(NoticeRefused, match=re.escape(reason)):
            accept_notice({**notice, **change}, agent=TEAM["billy"], number="REQ-1")


@pytest.mark.parametrize("agent", TEAM)
def test_a_schema_is_strict_and_takes_the_green_answer(agent: str) -> None:
    schema = notice_schema(TEAM[agent], "REQ-1")
    properties = schema["properties"]
    assert isinstance(properties, dict)

    assert schema["additionalProperties"] is False
    assert schema["required"] == list(properties)
    green = green_notice(TEAM[agent], "REQ-1")
    assert set(green) <= set(properties)
    for name, value in green.items():
        assert value in properties[name].get("enum", [value]), name
    verdict = VERDICTS.get(TEAM[agent].role)
    assert not verdict or None in properties[verdict]["enum"]


def report(ending: Ending = Ending.SUCCESS, **changes: object) -> ProgramReport:
    usual = ProgramReport("claude-code", "work", ending, session="s-1")
    return replace(usual, **changes)  # type: ignore[arg-type] # the fields of the caller


def test_a_program_is_asked_again_for_what_is_missing_or_refused() -> None:
    green = green_notice(TEAM["billy"], "REQ-1")

    def why(told: ProgramReport) -> str:
        return why_ask_again(told, TEAM["billy"], "REQ-1")

    assert why(report(answer=green)) == ""
    assert "No notice of billy" in why(report(text="All is done."))
    assert "unknown status" in why(report(answer={**green, "status": "DONE"}))
    assert "lacks its test_result" in why(report(answer={**green, "test_result": None}))
    assert why(report(answer={**green, "status": "BLOCKED", "test_result": None})) == ""
    assert why(report(Ending.DENIED)) != ""
    assert why(report(Ending.USAGE_LIMIT)) == ""
    assert why(report(text="", session="")) == ""


def test_a_reached_limit_owes_nothing_and_is_told_in_the_programs_own_words() -> None:
    until = datetime(2026, 1, 2, 6, 6, tzinfo=UTC)
    told = report(Ending.USAGE_LIMIT, detail="You've hit your limit", until=until)
    result = replace(a_result(exit_code=1), report=told)

    failure = read_run(a_request(), result).failure

    assert failure
    assert (failure.kind, failure.kind.is_red) == (FailureKind.LIMITED, False)
    assert failure.owners == ()
    assert failure.error.splitlines()[0] == (
        "claude-code (account work) cannot work now: the usage limit of its account is reached, "
        "until 2026-01-02 06:06 UTC: You've hit your limit"
    )


def test_an_implementer_who_was_denied_everything_is_told_of_it() -> None:
    reading = read_run(a_request(), a_result())
    merge = MergeResult(Head("c0ffee", 3), "c0ffee", changed=False)
    silent = replace(reading, notice=replace(reading.notice, no_changes_needed=""))  # type: ignore[type-var] # it has one

    failure = unchanged(a_request(), silent, merge, report(denials=("Bash npm test",)))

    assert failure
    assert "Denied: Bash npm test" in failure.error
