from dataclasses import replace
from datetime import timedelta

import pytest

from pipeline.board import Board
from pipeline.model import (
    Bounds,
    Failure,
    FailureKind,
    Fix,
    GivenUp,
    Recovered,
    StageOutcome,
    StageState,
)
from pipeline.repairs import apply_results
from pipeline.steering import possible_answers
from pipeline.triage import Triage, next_fix, triage
from tests.plans import shipped
from tests.unit.test_board import complete

ROY, JEN, QA = "Backend Implementation", "Frontend Implementation", "Backend QA"
NO_TIME = timedelta()


@pytest.fixture
def board() -> Board:
    return Board(shipped("standard"))


def red(board: Board, **changes: object) -> Failure:
    failure = Failure(
        ROY, FailureKind.BUILD, "build backend", ("roy",), "error TS2345", signature="abc"
    )
    failure = replace(failure, **changes)  # type: ignore[arg-type] # the fields of the caller
    board.fail(failure)
    return failure


def red_in_a_round(board: Board, **changes: object) -> None:
    red(board, **changes)
    board.counters.close_round()


def truncated(board: Board, spent: timedelta = NO_TIME) -> Triage:
    return triage(board, "REQ-1", spent)


def test_a_manifest_that_cannot_be_installed_goes_to_who_wrote_it(board: Board) -> None:
    complete(board, "Research", "Critique", ROY, JEN)
    qa = board.pipeline.stage(QA)
    failure = Failure(QA, FailureKind.PREPARE, "prepare backend", ("roy",), "npm ci failed")
    outcome = StageOutcome(QA, board.begin(qa), StageState.FAILED, None, True, failure=failure)
    board.apply(outcome)

    (fix,) = truncated(board).fixes
    assert (fix.owner, fix.stage, fix.task.name) == ("roy", ROY, "Fix prepare backend")
    key = (QA, "prepare backend")
    recovered = Recovered(None, parallel=True, cleared=(key,), green=(key,))
    reopened = apply_results(board, recovered)
    assert QA in reopened
    assert board.entries[QA].state is StageState.WAITING


def critique(board: Board, verdict: str) -> None:
    complete(board, "Research")
    stage = board.pipeline.stage("Critique")
    failure = Failure(stage.name, FailureKind.CRITIQUE, "critique Critique", ("cynthia",), "no")
    board.apply(
        StageOutcome(
            stage.name,
            board.begin(stage),
            StageState.BLOCKED,
            None,
            parallel=True,
            verdict=verdict,
            failure=failure,
        )
    )


def test_red_build_goes_to_its_owner_as_a_stage_like_the_owners_own(board: Board) -> None:
    failure = red(board)
    (fix,) = truncated(board).fixes

    own = board.pipeline.stage(ROY)
    assert (fix.number, fix.parent, fix.depth, fix.owner) == ("REQ-1-FIX-1", "REQ-1", 1, "roy")
    assert fix.failure == failure
    assert fix.task.name == "Fix build backend"
    assert (fix.task.needs, fix.task.builds, fix.task.flag) == ((), (), None)
    assert (fix.task.minutes, fix.task.retries) == (own.minutes, own.retries)


def test_two_failures_are_two_fixes_with_numbers_of_their_own(board: Board) -> None:
    red(board)
    red(board, stage=JEN, gate="build frontend", owners=("jen",))

    fixes = truncated(board).fixes

    assert [(fix.number, fix.owner) for fix in fixes] == [
        ("REQ-1-FIX-1", "roy"),
        ("REQ-1-FIX-2", "jen"),
    ]


def test_failure_of_both_sides_is_one_fix_each(board: Board) -> None:
    red(board, stage="Statistics", gate="verdict Statistics", owners=("roy", "jen"))

    assert [(fix.owner, fix.stage) for fix in truncated(board).fixes] == [
        ("roy", ROY),
        ("jen", JEN),
    ]


def test_numbers_go_on_after_earlier_fixes(board: Board) -> None:
    board.counters.fixes = 4
    red(board)

    assert truncated(board).fixes[0].number == "REQ-1-FIX-5"


def test_third_red_of_one_gate_asks_a_human(board: Board) -> None:
    for word in ("one", "two"):
        red_in_a_round(board, signature=word)
    assert truncated(board).fixes

    red(board, signature="three")

    (ask,) = truncated(board).asks
    assert (ask.gate, "third time" in ask.reason) == ("build backend", True)
    assert not truncated(board).fixes


def test_same_words_twice_in_a_row_ask_a_human(board: Board) -> None:
    red_in_a_round(board)
    red(board)

    assert "same words" in truncated(board).asks[0].reason


def test_failures_without_words_are_not_taken_for_the_same(board: Board) -> None:
    red_in_a_round(board, signature="")
    red(board, signature="")

    assert truncated(board).fixes


def test_same_words_of_another_owner_are_another_error(board: Board) -> None:
    red_in_a_round(board, gate="verdict Statistics", owners=("roy",))
    red(board, gate="verdict Statistics", owners=("jen",))

    assert truncated(board).fixes


@pytest.mark.parametrize(
    "kind",
    [
        FailureKind.BLOCKED,
        FailureKind.INFRASTRUCTURE,
        FailureKind.PRE_EMPTED,
        FailureKind.LIMITED,
        FailureKind.REFUSED,
        FailureKind.DELIVERY,
    ],
)
def test_what_no_agent_can_repair_asks_a_human_and_costs_no_try(
    board: Board, kind: FailureKind
) -> None:
    red(board, kind=kind)

    assert not truncated(board).fixes
    assert truncated(board).asks
    assert board.counters.reds.get("build backend", 0) == (kind is FailureKind.DELIVERY)


def test_spent_time_asks_a_human(board: Board) -> None:
    red(board)
    bound = board.pipeline.bounds.work

    assert truncated(board, bound - timedelta(seconds=1)).fixes
    assert "the bound is 72" in truncated(board, bound).asks[0].reason


def test_owner_without_a_stage_asks_a_human(board: Board) -> None:
    red(board, owners=("nobody",))

    assert "no stage in this plan" in truncated(board).asks[0].reason


@pytest.mark.parametrize("owners", [("roy", "jen"), ("jen",)])
def test_verdict_on_both_sides_goes_to_the_one_that_the_plan_has(owners: tuple[str, ...]) -> None:
    board = Board(shipped("one-sided"))
    stage = "Security Testing"
    gate = f"verdict {stage}"

    red(board, stage=stage, kind=FailureKind.VERDICT, gate=gate, owners=owners)

    assert [fix.owner for fix in truncated(board).fixes] == ["roy"]


def test_request_changes_sends_research_back_twice_then_asks(board: Board) -> None:
    critique(board, "REQUEST_CHANGES")
    assert truncated(board).rework == "Research"
    board.counters.reviews = 2

    found = truncated(board)

    assert not found.rework
    assert "after 2 reviews" in found.asks[0].reason
    assert possible_answers(board, found.asks) == (
        "decide approve",
        "decide request-changes",
        "decide abort",
    )


def test_escalate_asks_at_once(board: Board) -> None:
    critique(board, "ESCALATE")

    assert not truncated(board).rework
    assert "ESCALATE" in truncated(board).asks[0].reason


def test_human_who_takes_care_of_a_gate_starts_its_count_anew(board: Board) -> None:
    complete(board, "Research", "Critique", ROY)
    for word in ("one", "two", "three"):
        red_in_a_round(board, signature=word)
    board.reopen(ROY)
    red(board, signature="four")

    assert truncated(board).fixes


def test_nothing_given_up_gets_another_fix(board: Board) -> None:
    red(board)
    given_up = GivenUp("build backend", "REQ-1-FIX-1 failed too")
    apply_results(board, Recovered(None, parallel=True, given_up=(given_up,)))

    assert truncated(board).asks[0].reason == "REQ-1-FIX-1 failed too"


# --- fixes of fixes ---------------------------------------------------------------------------


@pytest.fixture
def fix(board: Board) -> Fix:
    red(board)
    return truncated(board).fixes[0]


def test_fix_of_a_fix_has_the_fix_as_its_parent(fix: Fix) -> None:
    failure = Failure(fix.task.name, FailureKind.TIMEOUT, "run x", ("roy",), "late")
    second = next_fix(fix, failure, Bounds(), NO_TIME)

    assert isinstance(second, Fix)
    assert (second.number, second.parent, second.depth) == (
        "REQ-1-FIX-1-FIX-1",
        "REQ-1-FIX-1",
        2,
    )
    assert second.failure.gate == fix.failure.gate
    assert "error TS2345" in second.failure.error
    assert "REQ-1-FIX-1 did not repair it: late" in second.failure.error


def test_depth_three_asks_a_human(fix: Fix) -> None:
    failure = Failure(fix.task.name, FailureKind.TIMEOUT, "run x", ("roy",), "late")
    second = next_fix(fix, failure, Bounds(), NO_TIME)
    assert isinstance(second, Fix)

    assert "2 deep" in str(next_fix(second, failure, Bounds(), NO_TIME))


def test_fix_that_was_lost_with_its_host_gets_no_fix(fix: Fix) -> None:
    failure = Failure(fix.task.name, FailureKind.INFRASTRUCTURE, "run x", (), "lost")

    assert "infrastructure" in str(next_fix(fix, failure, Bounds(), NO_TIME))


def test_spent_time_ends_a_chain_of_fixes(fix: Fix) -> None:
    failure = Failure(fix.task.name, FailureKind.TIMEOUT, "run x", ("roy",), "late")

    assert "the bound is 72" in str(next_fix(fix, failure, Bounds(), Bounds().work))
