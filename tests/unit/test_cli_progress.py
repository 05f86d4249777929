import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import cast

import pytest
from rich.console import Console

from adapters.sdlc.views import (
    EscalationView,
    FailureView,
    FixView,
    LeftoverView,
    RequirementView,
    RetryView,
    StageView,
)
from cli.status import ask_line, full_status, status_document
from cli.watch import ProgressLines
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


def shown(view: RequirementView) -> str:
    console = Console(width=200, file=StringIO())
    console.print(full_status(view))
    return cast(StringIO, console.file).getvalue()


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


def test_the_preparation_of_a_clone_is_told_when_it_begins_and_when_it_has_ended(
    said: Said,
) -> None:
    waiting = replace(STAGE, state=StageState.RUNNING, ended_at=None)
    begun = replace(waiting, prepared=("backend", "frontend"), prepare_started_at=datetime.now(UTC))
    done = replace(begun, prepare_started_at=AT, prepare_ended_at=AT + timedelta(seconds=72))
    said(replace(RUNNING, stages=(waiting,)))

    (line,) = said(replace(RUNNING, stages=(begun,)))
    preparing = "Work: its clone is being prepared for backend and frontend"
    assert re.fullmatch(rf"{preparing}, \d+\.\ds by now", line)
    assert said(replace(RUNNING, stages=(begun,))) == []
    assert said(replace(RUNNING, stages=(done,))) == [
        "Work: its clone was prepared for backend and frontend in 1m12s"
    ]
    assert "preparing" in shown(replace(RUNNING, stages=(begun,)))
    assert "preparing" not in shown(replace(RUNNING, stages=(done,)))
    assert "Clones prepared before their agents: Work 1m12s" in shown(
        replace(RUNNING, stages=(done,))
    )


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


RETRY = RetryView("REQ-1", "here", "Work: take over its work", AT, 7, "fatal: disk\nfull", AT)


def test_step_that_fails_is_said_once_and_its_end_too(said: Said) -> None:
    said(RUNNING)
    failing = replace(RUNNING, retries=(RETRY,))
    (first, silent) = said(failing)
    assert first.startswith("Retrying Work: take over its work since ")
    assert first.endswith("fatal: disk")
    assert "here has not tried for" in silent
    assert said(replace(RUNNING, retries=(replace(RETRY, tries=8),))) == []
    assert said(RUNNING) == ["No longer retrying Work: take over its work"]


def test_status_tells_of_every_step_that_fails_and_of_what_was_left() -> None:
    now = datetime.now(UTC)
    of_fix = replace(RETRY, number="REQ-1-FIX-1", step="open", since=now, last_at=now, tries=1)
    left = LeftoverView("REQ-1", "here", "fatal: broken", AT, 1, None)
    view = replace(RUNNING, retries=(RETRY, of_fix), leftover=left)
    text = shown(view)

    assert "Retrying Work: take over its work since " in text
    assert "failed 7 times" in text
    assert "Retrying REQ-1-FIX-1: open" in text
    assert "failed once" in text
    assert "Not cleaned up on here, which keeps trying: fatal: broken" in text
    document = status_document(view)
    assert document["retries"] == [
        {
            "req_number": each.number,
            "host": "here",
            "step": each.step,
            "since": each.since,
            "tries": each.tries,
            "error": each.error,
            "last_at": each.last_at,
        }
        for each in (RETRY, of_fix)
    ]
