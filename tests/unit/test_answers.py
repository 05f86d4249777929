import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.answers import ERROR_LENGTH, read_run
from pipeline.model import (
    FailureKind,
    Head,
    Priority,
    RequirementRef,
    RunEnd,
    RunResult,
    StageRequest,
    StageState,
)
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
    body = json.dumps({**green_notice(agent, "REQ-1"), **notice})
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
        "It died while it was suspended for a P0, and is run again: its supervisor was killed"
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
    assert len(reading.failure.error) <= ERROR_LENGTH
