import pytest

from pipeline.board import Board
from pipeline.errors import RefusedInput
from pipeline.model import (
    Answer,
    Failure,
    FailureKind,
    Head,
    Stage,
    StageOutcome,
    StageState,
)
from pipeline.plan_rules import DELIVER
from pipeline.steering import check_decision, check_extension, check_retry
from tests.plans import shipped


def a_failure(stage: str, kind: FailureKind = FailureKind.CRASH, gate: str = "") -> Failure:
    return Failure(stage, kind, gate or f"run {stage}", ("roy",), "it broke")


def complete(board: Board, *names: str, flags: tuple[str, ...] = ()) -> None:
    for name in names:
        attempt = board.begin(board.pipeline.stage(name))
        state = StageState.COMPLETED
        board.apply(StageOutcome(name, attempt, state, None, True, flags=flags))


def fail(board: Board, name: str, kind: FailureKind = FailureKind.CRASH) -> StageOutcome:
    attempt = board.begin(board.pipeline.stage(name))
    failure = a_failure(name, kind)
    return StageOutcome(name, attempt, StageState.FAILED, None, True, failure=failure)


def a_stage(board: Board, name: str) -> Stage:
    return board.pipeline.stage(name)


@pytest.fixture
def board() -> Board:
    return Board(shipped("standard"))


def test_stage_waits_until_all_its_needs_have_ended(board: Board) -> None:
    qa = a_stage(board, "Backend QA")
    complete(board, "Research", "Critique", "Backend Implementation")

    assert not board.needs_decided(qa)
    board.apply(fail(board, "Frontend Implementation"))

    assert board.needs_decided(qa)
    assert board.red_needs(qa) == ("Frontend Implementation",)


def test_conditional_stage_is_wanted_for_its_own_flag_alone(board: Board) -> None:
    complete(board, "Frontend QA", flags=("needs_vic",))

    assert board.is_wanted(a_stage(board, "Security Testing"))
    assert not board.is_wanted(a_stage(board, "Performance Testing"))


def test_reopened_tester_takes_its_flag_back(board: Board) -> None:
    complete(board, "Frontend QA", flags=("needs_vic",))
    board.reopen("Frontend QA")

    assert not board.is_wanted(a_stage(board, "Security Testing"))


def test_unanswered_run_is_tried_again_exactly_as_declared(board: Board) -> None:
    roy, research = a_stage(board, "Backend Implementation"), a_stage(board, "Research")

    assert board.tries_again(roy, fail(board, roy.name))
    assert not board.tries_again(roy, fail(board, roy.name))
    assert not board.tries_again(research, fail(board, research.name))


@pytest.mark.parametrize("kind", [FailureKind.FAILED, FailureKind.VERDICT, FailureKind.CONFLICT])
def test_answer_is_never_tried_again(board: Board, kind: FailureKind) -> None:
    roy = a_stage(board, "Backend Implementation")

    assert not board.tries_again(roy, fail(board, roy.name, kind))


def test_infrastructure_losses_cost_no_try_but_the_third_in_a_row_blocks(board: Board) -> None:
    roy = a_stage(board, "Backend Implementation")
    lost = FailureKind.INFRASTRUCTURE

    assert [board.tries_again(roy, fail(board, roy.name, lost)) for _ in range(3)] == [
        True,
        True,
        False,
    ]


def test_crash_between_losses_starts_their_count_again(board: Board) -> None:
    roy = a_stage(board, "Backend Implementation")
    kinds = [FailureKind.INFRASTRUCTURE] * 2 + [FailureKind.CRASH, FailureKind.INFRASTRUCTURE]

    assert all(board.tries_again(roy, fail(board, roy.name, kind)) for kind in kinds)


def test_held_session_goes_on_as_the_same_attempt_with_what_it_has_seen(board: Board) -> None:
    qa = a_stage(board, "Backend QA")
    complete(board, "Research", "Critique", "Backend Implementation", "Frontend Implementation")
    board.advance(Head("c1", 1))
    attempt = board.begin(qa)
    seen = board.entries[qa.name].reviewed

    board.hold(qa, "", resumes=True)
    complete(board, "Backend Implementation")  # a fix, merged while it was held
    board.advance(Head("c2", 2))

    assert board.begin(qa) == attempt
    entry = board.entries[qa.name]
    assert (entry.reviewed, entry.base) == (seen, Head("c1", 1))


def test_resumed_attempt_that_fails_is_followed_by_a_new_one(board: Board) -> None:
    roy = a_stage(board, "Backend Implementation")
    board.begin(roy)
    board.hold(roy, "", resumes=True)
    outcome = fail(board, roy.name)

    assert outcome.attempt == 1
    assert board.tries_again(roy, outcome)
    assert board.begin(roy) == 2


def test_run_that_died_while_suspended_is_always_tried_again_and_counts_as_nothing(
    board: Board,
) -> None:
    roy = a_stage(board, "Backend Implementation")
    lost, suspended = FailureKind.INFRASTRUCTURE, FailureKind.PRE_EMPTED

    assert all(board.tries_again(roy, fail(board, roy.name, suspended)) for _ in range(9))
    assert [
        board.tries_again(roy, fail(board, roy.name, kind))
        for kind in (lost, suspended, lost, suspended, lost, suspended)
    ] == [True, True, True, True, False, True]
    board.fail(a_failure(roy.name, suspended))
    assert (board.entries[roy.name].tries, board.counters.reds) == (0, {})


def test_head_only_moves_forward(board: Board) -> None:
    board.advance(Head("b", 2))
    board.advance(Head("a", 1))

    assert board.commit == "b"


def test_reopening_keeps_what_does_not_depend_on_it() -> None:
    board = Board(shipped("critical-path"))
    complete(board, "Research", "Critique", "Backend Implementation", "Frontend Implementation")
    complete(board, "Frontend QA")
    board.apply(fail(board, "Backend QA"))
    board.reopen("Backend Implementation")

    assert board.entries["Frontend QA"].state is StageState.COMPLETED
    assert board.entries["Backend QA"].state is StageState.WAITING
    assert not board.failures


def test_attempts_go_on_counting_after_a_reopening(board: Board) -> None:
    roy = a_stage(board, "Backend Implementation")
    complete(board, roy.name)
    board.reopen(roy.name)

    assert board.begin(roy) == 2


def test_evidence_mark_changes_with_the_attempt(board: Board) -> None:
    complete(board, "Backend Implementation")
    before = board.work.built()
    board.reopen("Backend Implementation")
    complete(board, "Backend Implementation")

    assert (before, board.work.built()) == (
        ("Backend Implementation#1",),
        ("Backend Implementation#2",),
    )


def test_deployment_beside_the_measurement_is_known() -> None:
    final, standard = Board(shipped("final-stages")), Board(shipped("standard"))
    berry = "DevOps Deployment"

    assert final.runs_beside_measurement(a_stage(final, berry))
    assert not standard.runs_beside_measurement(a_stage(standard, berry))


@pytest.mark.parametrize(
    ("stage", "reason"),
    [
        ("Nothing", "There is no stage"),
        ("Research", "only what failed"),
        (DELIVER, "has not failed"),
        ("Backend QA", "waits for Backend Implementation"),
    ],
)
def test_senseless_retry_is_refused_with_its_reason(board: Board, stage: str, reason: str) -> None:
    complete(board, "Research", "Critique", "Frontend Implementation")
    board.apply(fail(board, "Backend Implementation"))
    board.block(a_stage(board, "Backend QA"), "needs")

    with pytest.raises(RefusedInput, match=reason):
        check_retry(board, stage)


def test_retry_is_refused_while_something_runs_on_the_result() -> None:
    board = Board(shipped("final-stages"))
    board.fail(a_failure("Backend Implementation", FailureKind.BUILD, "build backend"))
    complete(board, "Research", "Critique", "Backend Implementation", "Frontend Implementation")
    board.begin(a_stage(board, "Statistics"))

    with pytest.raises(RefusedInput, match="Statistics still runs"):
        check_retry(board, "Backend Implementation")


def test_owner_of_a_red_build_can_be_retried_although_it_completed(board: Board) -> None:
    complete(board, "Research", "Critique", "Backend Implementation", "Frontend Implementation")
    board.fail(a_failure("Backend Implementation", FailureKind.BUILD, "build backend"))

    check_retry(board, "Backend Implementation")


def all_but_critique_blocked(board: Board, kind: FailureKind) -> None:
    complete(board, "Research")
    board.begin(a_stage(board, "Critique"))
    board.apply(
        StageOutcome(
            "Critique", 1, StageState.BLOCKED, None, True, failure=a_failure("Critique", kind)
        )
    )
    for stage in board.waiting():
        board.block(stage, "needs")


def test_approval_passes_a_verdict_and_reopens_what_waited(board: Board) -> None:
    all_but_critique_blocked(board, FailureKind.CRITIQUE)
    check_decision(board, Answer.APPROVE)
    board.approve("Critique")

    assert board.entries["Critique"].state is StageState.COMPLETED
    assert len(board.waiting()) == 9
    assert not board.failures


@pytest.mark.parametrize("answer", [Answer.APPROVE, Answer.REQUEST_CHANGES])
def test_nothing_but_a_verdict_can_be_approved(board: Board, answer: Answer) -> None:
    all_but_critique_blocked(board, FailureKind.NOTICE)

    check_decision(board, Answer.ABORT)
    with pytest.raises(RefusedInput, match="No verdict is asked for"):
        check_decision(board, answer)


def test_nothing_but_the_end_is_decided_while_work_goes_on(board: Board) -> None:
    board.begin(a_stage(board, "Research"))

    check_decision(board, Answer.ABORT)
    with pytest.raises(RefusedInput, match="only `abort` is possible"):
        check_decision(board, Answer.APPROVE)


@pytest.mark.parametrize("minutes", [0, -1, float("inf"), float("nan")])
def test_extension_by_no_time_is_refused(board: Board, minutes: float) -> None:
    board.begin(a_stage(board, "Research"))

    with pytest.raises(RefusedInput, match="positive number"):
        check_extension(board, "Research", minutes)


def test_extension_of_what_does_not_run_is_refused(board: Board) -> None:
    with pytest.raises(RefusedInput, match="not running"):
        check_extension(board, "Research", 5)


def test_what_a_stage_under_repair_builds_on_cannot_be_retried(board: Board) -> None:
    complete(board, "Research", "Critique", "Backend Implementation", "Frontend Implementation")
    board.apply(fail(board, "Backend QA"))
    board.repairs = {"Statistics": "REQ-1-FIX-1"}

    with pytest.raises(RefusedInput, match="Statistics still runs, or is repaired"):
        check_retry(board, "Backend QA")


def test_stage_under_repair_cannot_be_retried(board: Board) -> None:
    board.apply(fail(board, "Research"))
    board.repairs = {"Research": "REQ-1-FIX-1"}

    with pytest.raises(RefusedInput, match="REQ-1-FIX-1"):
        check_retry(board, "Research")


def test_held_stage_is_neither_stuck_nor_settled_and_keeps_its_attempt(board: Board) -> None:
    research = a_stage(board, "Research")
    board.entries["Research"].reason = "It is void."
    board.begin(research)

    board.hold(research, "It is void.")

    assert board.held() == ("Research",)
    assert not board.is_stuck()
    assert not board.needs_decided(a_stage(board, "Critique"))
    assert board.entries["Research"].reason == "It is void."
    assert board.begin(research) == 1
