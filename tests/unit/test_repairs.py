from dataclasses import replace

import pytest

from pipeline.board import Board
from pipeline.model import (
    Failure,
    FailureKind,
    Head,
    MergedFix,
    Recovered,
    StageOutcome,
    StageState,
)
from pipeline.repairs import apply_results
from tests.plans import shipped
from tests.unit.test_board import complete
from tests.unit.test_triage import JEN, QA, ROY, red


@pytest.fixture
def board() -> Board:
    return Board(shipped("standard"))


def recovered(**changes: object) -> Recovered:
    merged = (MergedFix("REQ-1-FIX-1", ROY),)
    base = Recovered(Head("c2", 9), parallel=True, merged=merged)
    return replace(base, **changes)  # type: ignore[arg-type] # the fields of the caller


def test_fix_makes_verdicts_on_its_side_and_on_both_sides_stale(
    board: Board,
) -> None:
    complete(board, *(stage.name for stage in board.pipeline.stages))

    reopened = apply_results(board, recovered())

    assert set(reopened) == {QA, "Performance Testing", "Security Testing", "Statistics"}
    assert board.entries["Frontend QA"].state is StageState.COMPLETED
    assert board.entries["Critique"].state is StageState.COMPLETED
    assert board.entries[ROY].state is StageState.COMPLETED


def test_fix_makes_evidence_of_older_builds_stale(board: Board) -> None:
    complete(board, ROY, JEN)
    before = board.work.built()
    apply_results(board, recovered())

    assert board.work.built() == (f"{ROY}#1+REQ-1-FIX-1", f"{JEN}#1")
    assert before[0] not in board.work.built()


def test_verdict_that_was_given_after_the_fix_stands(board: Board) -> None:
    complete(board, "Research", "Critique", ROY, JEN, "Frontend QA")
    failure = Failure(QA, FailureKind.VERDICT, f"verdict {QA}", ("roy",), "wrong")
    attempt = board.begin(board.pipeline.stage(QA))
    board.apply(StageOutcome(QA, attempt, StageState.FAILED, None, True, failure=failure))
    seen = (f"{ROY}#1+REQ-1-FIX-1", f"{JEN}#1")
    passed = StageOutcome(QA, 2, StageState.COMPLETED, None, True, verdict="PASS", reviewed=seen)

    reopened = apply_results(board, recovered(outcomes=(passed,), cleared=((QA, f"verdict {QA}"),)))

    assert board.entries[QA].state is StageState.COMPLETED
    assert not reopened
    assert not board.failures


def test_what_could_not_start_waits_again_once_nothing_is_red(board: Board) -> None:
    complete(board, "Research", "Critique", ROY, JEN)
    red(board)
    board.block(board.pipeline.stage(QA), "Red: build backend.")

    assert QA in apply_results(board, recovered(cleared=((ROY, "build backend"),)))
    assert board.entries[QA].state is StageState.WAITING


def test_what_could_not_start_stays_blocked_while_something_is_red(board: Board) -> None:
    complete(board, "Research", "Critique", ROY, JEN)
    red(board)
    red(board, stage=JEN, gate="build frontend", owners=("jen",))
    board.block(board.pipeline.stage(QA), "Red: build backend.")

    assert not apply_results(board, recovered(cleared=((ROY, "build backend"),)))
    assert board.entries[QA].state is StageState.BLOCKED
