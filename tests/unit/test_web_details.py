"""What the Web UI shows of a requirement, as Markdown."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.board import QUEUED, Board
from pipeline.model import (
    Answer,
    Ask,
    DecisionRequest,
    Expected,
    ExpectedStage,
    Failure,
    FailureKind,
    RequirementState,
    RetryRequest,
    Severity,
    StageOutcome,
    StageState,
)
from pipeline.web_details import YOU, Moment, details, escaped, question, span, table, update_of
from tests.plans import a_graph

NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
HOSTILE = "<img src=x> | a\n[b](c) `d` **e** ![f](g) # h"


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def a_board() -> Board:
    """A is done after 12 minutes, of which it was queued for 2; B runs beside C, D waits."""
    board = Board(a_graph({"A": (), "B": ["A"], "C": ["A"], "D": ["B", "C"]}))
    stages = {stage.name: stage for stage in board.pipeline.stages}
    board.show(NOON)
    board.begin(stages["A"])
    board.queued.add("A")
    board.show(NOON)
    board.queued.remove("A")
    board.show(NOON + minutes(2))
    board.apply(StageOutcome("A", 1, StageState.COMPLETED, None, parallel=True))
    board.show(NOON + minutes(12))
    board.begin(stages["B"])
    board.show(NOON + minutes(13))
    board.begin(stages["C"])
    board.show(NOON + minutes(15))
    return board


def shown(state: RequirementState = RequirementState.RUNNING, **fields: object) -> Moment:
    values: dict[str, object] = {"waiting_for": "", "note": "", "now": NOON + minutes(20)}
    return Moment("REQ-1", state, namespace="ours", **{**values, **fields})  # type: ignore[arg-type]


def rows(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_each_stage_says_what_it_does_since_when_and_how_long_it_has_worked() -> None:
    head, _, *stages = rows(details(shown(), a_board()))

    assert head == ["stage", "agent", "state", "since", "took"]
    assert stages == [
        ["A", "tim", "completed", "12:12", "10\xa0min"],
        ["B", "tim", "running", "12:13", ""],
        ["C", "tim", "running", "12:15", ""],
        ["D", "tim", "waiting for tim", "", ""],
    ]


def test_what_runs_again_keeps_the_time_that_it_has_worked() -> None:
    board = a_board()
    board.apply(StageOutcome("B", 1, StageState.FAILED, None, parallel=True))
    board.show(NOON + minutes(23))
    board.reopen("B")
    board.begin(board.pipeline.stage("B"))
    board.queued.add("B")
    board.show(NOON + minutes(30))

    b = rows(details(shown(now=NOON + timedelta(days=1)), board))[3]
    assert b == ["B", "tim", QUEUED, "11-29\xa012:30", "10\xa0min"]


def test_the_end_is_reckoned_from_the_stage_that_began_last() -> None:
    stage = ExpectedStage(600, 1_200, 1_800, 5_400)
    expected = Expected(3_600, 7_200, dict.fromkeys("ABCD", stage), is_learned=True)
    board = a_board()

    told = details(shown(expected=expected), board)
    assert "Expected end: **12:45** (p50), **13:45** (p80) UTC, as of the start of C;" in told
    assert rows(told)[4][-1] == "of\xa0≈\xa010\xa0min"
    held = details(shown(RequirementState.HELD, expected=expected), board)
    assert "expected to take 1\xa0h\xa000 (p50), 2\xa0h\xa000 (p80); waiting not counted" in held
    assert "Expected" not in details(shown(RequirementState.FAILED, expected=expected), board)


def test_text_of_others_is_no_markup_and_numbers_are_links() -> None:
    board = a_board()
    error = Failure("B", FailureKind.CRASH, "run B", ("tim",), HOSTILE, Severity.CRITICAL)
    board.fail(error)

    told = details(shown(RequirementState.BLOCKED, waiting_for="REQ-1-FIX-1, human"), board)
    assert "[REQ-1-FIX-1](/namespaces/ours/workflows/REQ-1-FIX-1), human" in told
    assert "- **run B** (tim): \\<img src=x\\> \\| a" in told
    said = question("REQ-1", [Ask("B", "run B", HOSTILE)], ["decide abort"])
    assert escaped(HOSTILE) in said
    assert "\n[b]" not in said + told
    assert question("REQ-1", [], ["decide abort"]) == ""


@pytest.mark.parametrize(
    ("answer", "update", "request_"),
    [
        ("decide approve", "decide", DecisionRequest(Answer.APPROVE, YOU)),
        ("decide abort", "decide", DecisionRequest(Answer.ABORT, YOU)),
        ("retry 'Backend QA'", "retry", RetryRequest("Backend QA", YOU)),
    ],
)
def test_the_input_of_an_update_is_what_its_workflow_takes(
    answer: str, update: str, request_: DecisionRequest | RetryRequest
) -> None:
    name, value = update_of(answer)

    assert (name, type(request_)(**json.loads(value))) == (update, request_)


def test_cells_of_tables_do_not_touch_and_times_stay_in_one_piece() -> None:
    head, _, row = table(("a", "b"), [("1", "2")])
    assert row == "| 1\xa0\xa0 | 2\xa0\xa0 |"
    assert head.count("\xa0\xa0") == 2
    assert [span(timedelta(seconds=each)) for each in (9, 60, 3_599, 3_660)] == [
        "9\xa0s", "1\xa0min", "1\xa0h\xa000", "1\xa0h\xa001",
    ]  # fmt: skip
