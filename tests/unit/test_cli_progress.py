from dataclasses import replace
from datetime import UTC, datetime

import pytest

from adapters.sdlc_views import EscalationView, FailureView, FixView, RequirementView, StageView
from cli.progress import ProgressLines
from cli.repairs_view import ask_line
from pipeline.model import Ask, FailureKind, Mode, Priority, RequirementState, StageState
from pipeline.steering import addressed

AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
STAGE = StageView("Work", "roy", "Work", StageState.COMPLETED, 1, 1, AT, AT, "", "")
FAILURE = FailureView(
    1,
    "Work",
    FailureKind.BUILD,
    "build backend",
    ("roy",),
    1,
    "It broke.\nBadly.",
    "",
    "",
    AT,
    None,
)
FIX = FixView(
    "REQ-1-FIX-1", "REQ-1", 1, "roy", "build backend", RequirementState.RUNNING, "", AT, None
)
ASK = Ask("Work", "build backend", "build backend is red for the third time")
QUESTION = EscalationView(1, 2, (ASK,), ("retry Work",), AT, 0, None, "", "", "")
RUNNING = RequirementView(
    "REQ-1", "A title", Priority.P2, RequirementState.RUNNING, "small", Mode.PARALLEL, 0, None,
    None, None, "", "", AT, AT, AT, None, "", None, None, None, None, (STAGE,), (), (), (), (),
    None,
)  # fmt: skip


def blocked(waiting_for: str, *fixes: FixView, **changes: object) -> RequirementView:
    state = RequirementState.BLOCKED
    view = replace(RUNNING, state=state, waiting_for=waiting_for, failures=(FAILURE,), fixes=fixes)
    return replace(view, **changes)  # type: ignore[arg-type] # each test names real fields


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> "Said":
    return Said(capsys)


class Said:
    """The new lines of each look at REQ-1."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self._lines = ProgressLines()

    def __call__(self, view: RequirementView) -> list[str]:
        self._lines(view)
        return [
            line.removeprefix("[REQ-1] ") for line in self._capsys.readouterr().err.splitlines()
        ]


def test_a_failure_is_followed_from_its_report_to_its_repair(said: Said) -> None:
    said(RUNNING)

    assert said(blocked("REQ-1-FIX-1", FIX)) == [
        "Round 1 has failures: 1",
        "❌ build backend (roy): It broke.",
        "REQ-1-FIX-1 opened: roy repairs build backend",
        "BLOCKED, waits for REQ-1-FIX-1",
    ]
    done = replace(FIX, state=RequirementState.DELIVERED, reason="Whole again.\nReally.")
    [ended, state] = said(replace(RUNNING, fixes=(done,)))
    assert ended.endswith("REQ-1-FIX-1 (roy) DELIVERED: Whole again.")
    assert state == "RUNNING"


def test_a_question_is_told_once(said: Said) -> None:
    said(blocked("orchestrator"))

    asked = blocked("human", escalation=QUESTION)

    assert said(asked) == [
        "BLOCKED, waits for human",
        "A human is asked: build backend is red for the third time",
    ]
    assert said(asked) == []


def test_a_fix_that_is_over_at_the_first_look_is_told_whole(said: Said) -> None:
    failed = replace(FIX, state=RequirementState.FAILED, reason="No.")

    opened, ended = said(replace(RUNNING, fixes=(failed,)))[1:3]

    assert opened == "REQ-1-FIX-1 opened: roy repairs build backend"
    assert ended.endswith("REQ-1-FIX-1 (roy) FAILED: No.")


def test_failures_that_a_later_round_reports_again_are_told_again(said: Said) -> None:
    said(blocked("orchestrator"))
    again = replace(FAILURE, round=2, error="Worse.")

    assert said(blocked("orchestrator", failures=(again,))) == [
        "Round 2 has failures: 1",
        "❌ build backend (roy): Worse.",
    ]


def test_an_answer_becomes_a_command() -> None:
    assert addressed("retry 'Backend QA'", "REQ-1") == "retry REQ-1 'Backend QA'"


def test_a_question_names_what_is_red_once() -> None:
    assert ask_line(ASK) == "build backend is red for the third time"
    assert ask_line(Ask("deliver", "delivery", "the target branch is yours")) == (
        "delivery: the target branch is yours"
    )
