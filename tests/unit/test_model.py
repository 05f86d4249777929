from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import DependencyUnavailable, PlanRefused, StaleAttempt
from pipeline.model import (
    BuildRequest,
    FailureKind,
    Head,
    Priority,
    RequirementRef,
    RequirementState,
    RunEnd,
    RunResult,
    Severity,
    StageRequest,
    StageState,
    Turn,
)
from tests.plans import a_stage, shipped


def test_p0_comes_first() -> None:
    assert sorted(Priority, key=lambda priority: priority.rank) == list(Priority)
    assert Priority.P0.rank == 0


def test_only_an_end_is_final() -> None:
    finals = [state for state in RequirementState if state.is_final]

    assert finals == ["DELIVERED", "FAILED", "CANCELLED"]


def test_a_stage_is_done_red_or_still_to_come() -> None:
    assert [state for state in StageState if state.is_done] == ["completed", "skipped"]
    assert [state for state in StageState if state.is_red] == ["failed", "blocked"]


def test_only_a_run_without_a_valid_notice_is_unanswered() -> None:
    unanswered = [kind for kind in FailureKind if kind.is_unanswered]

    assert unanswered == ["crash", "timeout", "notice"]


def test_a_run_works_from_its_start_to_its_end_but_for_the_time_it_was_suspended() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    result = RunResult(RunEnd.EXITED, 0, "", "", start, start + timedelta(minutes=9), 1, "log")

    assert result.elapsed == timedelta(minutes=9)
    for minutes, worked in (((2, 6), 5), ((2, 3, 5, 6), 7), ((2,), 2), ((-3, 1), 8), ((2, 12), 2)):
        changes = tuple(start + timedelta(minutes=minute) for minute in minutes)
        assert replace(result, suspensions=changes).elapsed == timedelta(minutes=worked)
    assert replace(result, started_at=None).elapsed == timedelta()


def test_severities_are_ordered() -> None:
    assert max(Severity) is Severity.CATASTROPHIC


def test_a_pipeline_knows_its_stages_and_builds() -> None:
    plan = shipped("standard")

    assert plan.stage("Research").agent == "cynthia"
    assert plan.builds == ("backend", "frontend")
    with pytest.raises(KeyError, match="Nothing"):
        plan.stage("Nothing")


def test_runs_and_builds_are_keyed_by_execution_name_and_count() -> None:
    ref = RequirementRef("REQ-1", "run")
    stage = StageRequest(ref, Priority.P2, a_stage("Backend QA"), 2, None, 10)
    build = BuildRequest(ref, "backend", "Backend QA", "roy", Head("abc", 1), "3", True)

    assert ref.key == "REQ-1/run"
    assert stage.run_id == "REQ-1/run/Backend QA/2"
    assert build.run_id == "REQ-1/run/build backend/3"
    assert build.commit == "abc"
    assert replace(build, head=None).commit == ""


def test_an_error_explains_itself() -> None:
    assert str(StaleAttempt()) == "The attempt that wants to close is no longer the current one."
    assert str(StaleAttempt("why")) == "why"
    assert str(PlanRefused("file", "key", "reason")) == "file: key: reason"
    down = DependencyUnavailable("NATS", "localhost:1", "Start it.")
    assert str(down) == "NATS cannot be reached at localhost:1. Start it."
    assert down.dependency == "NATS"


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (Turn("main", 2, "REQ-1", "REQ-1"), "2nd in line, behind REQ-1, which is delivering."),
        (Turn("main", 3, "REQ-2", "REQ-1"), "3rd in line, behind REQ-2; REQ-1 is delivering."),
        (Turn("main", 12, "REQ-2", ""), "12th in line, behind REQ-2."),
        (Turn("main", 21, "REQ-2", ""), "21st in line, behind REQ-2."),
        (Turn("main", 1, "", "", True), "1st in line; an open P0 or a blocker comes first."),
    ],
)
def test_a_turn_says_the_place_and_who_stands_before_it(turn: Turn, said: str) -> None:
    assert turn.text == f"It waits for its turn to deliver to main: {said}"
