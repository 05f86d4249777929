"""What a round of fixes changes on the board."""

from collections.abc import Mapping
from dataclasses import replace

from pipeline.board import Board
from pipeline.failures import cut
from pipeline.model import (
    DeliveryReport,
    Failure,
    FailureKind,
    MergedFix,
    Recovered,
    StageOutcome,
    StageState,
    Standing,
)

_REPAIRED = "What it needs is repaired."

REASON_LENGTH = 200

Key = tuple[str, str]
"""Stage and gate of a failure."""


def standing(board: Board) -> Standing:
    """Every card as a message; reasons are truncated, for there may be sixty-four stages."""
    cards = {
        name: replace(card, reason=cut(card.reason, REASON_LENGTH), summary="")
        for name, card in board.cards.items()
    }
    return Standing(board.head, cards)


def restore(board: Board, message: Standing) -> None:
    """Set the board to the state in the message."""
    board.advance(message.head)
    board.cards.update(message.cards)


def add_fix(board: Board, fix: MergedFix) -> None:
    """Count a merged fix as part of its stage: older evidence becomes stale."""
    card = board.cards[fix.stage]
    card.fixes, card.merged = (*card.fixes, fix.number), fix.head


def run_again(board: Board, name: str, why: str) -> None:
    """Reopen this one stage, with all its tries."""
    card = board.cards[name]
    board.cards[name] = replace(
        card, state=StageState.WAITING, reason=why, flags=(), tries=0, losses=0, resumes=False
    )


def outcome_of(board: Board, name: str) -> StageOutcome:
    """The outcome of a stage that ran again; one that a build blocks carries no failure."""
    card = board.cards[name]
    return StageOutcome(
        stage=name,
        attempt=card.attempt,
        state=card.state,
        head=None,
        parallel=True,
        verdict=card.verdict,
        flags=card.flags,
        failure=next((f for f in board.open_failures() if f.stage == name), None),
        judged=card.judged,
        base=card.base,
    )


def substitute(
    board: Board, failure: Failure, report: DeliveryReport, judged: tuple[str, ...]
) -> StageOutcome:
    """The end of a stage whose run failed, as its fix answered in its place.

    `judged` is the work that was merged when the fix began.
    A verdict that is red is an answer: the run is repaired, and the verdict fails.
    """
    red = report.failures[0] if report.failures else None
    if red:
        word = "critique" if red.kind is FailureKind.CRITIQUE else "verdict"
        red = replace(red, stage=failure.stage, gate=f"{word} {failure.stage}")
    return StageOutcome(
        stage=failure.stage,
        attempt=board.cards[failure.stage].attempt,
        state=StageState.FAILED if red else StageState.COMPLETED,
        head=None,
        parallel=True,
        summary=report.reason,
        verdict=report.verdict,
        flags=report.flags,
        failure=red,
        judged=judged,
    )


def apply_results(board: Board, recovered: Recovered) -> Mapping[str, str]:
    """Apply the results of a round of fixes; returns the reopened stages, and why."""
    board.advance(recovered.head)
    for name, attempt in recovered.attempts:
        board.cards[name].attempt = max(attempt, board.cards[name].attempt)
    for fix in recovered.merged:
        add_fix(board, fix)
    for key in recovered.cleared:
        board.failures.pop(key, None)
    for _, gate in recovered.green:
        board.tally.reset_streak(gate)
    substitutes = (outcome for _, outcome in recovered.replaced)
    for outcome in (*substitutes, *recovered.outcomes):
        board.settle(outcome)
    for failure in recovered.failures:
        board.fail(failure)
    for given_up in recovered.given_up:
        board.tally.given_up[given_up.gate] = given_up.reason
    void = board.work.void_verdicts()
    for name, why in void.items():
        run_again(board, name, why)
    return void | unblock(board)


def unblock(board: Board) -> dict[str, str]:
    """Reopen every blocked stage once nothing is red."""
    if board.failures:
        return {}
    names = [blocked.stage.name for blocked in board.blocked_stages()]
    for name in names:
        run_again(board, name, _REPAIRED)
    return dict.fromkeys(names, _REPAIRED)
