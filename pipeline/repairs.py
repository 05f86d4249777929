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
    Stage,
    StageOutcome,
    StageStanding,
    StageState,
    Standing,
)
from pipeline.notice import VERDICTS
from pipeline.team import TEAM, Role, Side

REASON_LENGTH = 200
"""Characters of a stage's reason that travel; there may be sixty-four stages."""

Key = tuple[str, str]
"""Stage and gate of a failure."""


def standing(board: Board) -> Standing:
    """Every stage as a message; the first of a reason is enough to know it by."""
    stages = (
        StageStanding(
            name,
            card.state,
            card.attempt,
            cut(card.reason, REASON_LENGTH),
            card.verdict,
            card.flags,
            card.fixes,
        )
        for name, card in board.cards.items()
    )
    return Standing(board.head, tuple(stages))


def restore(board: Board, message: Standing) -> None:
    """Stand where the message says."""
    board.advance(message.head)
    for stage in message.stages:
        card = board.cards[stage.stage]
        card.state, card.attempt, card.reason = stage.state, stage.attempt, stage.reason
        card.verdict, card.flags, card.fixes = stage.verdict, stage.flags, stage.fixes


def add_fix(board: Board, fix: MergedFix) -> None:
    """Count a merged fix as part of the stage that it belongs to: it voids older evidence."""
    board.cards[fix.stage].fixes += (fix.number,)


def run_again(board: Board, name: str) -> None:
    """Let one stage that failed run again, and nothing else: its gate is made again."""
    board.cards[name] = replace(board.cards[name], state=StageState.WAITING, reason="")


def outcome_of(board: Board, name: str) -> StageOutcome:
    """How a stage that ran again has ended; blocked by a build, it carries no failure."""
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
    )


def stand_in(board: Board, failure: Failure, report: DeliveryReport) -> StageOutcome:
    """The end of a stage whose run failed, as its fix answered in its place.

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
    )


def take(board: Board, recovered: Recovered) -> Mapping[str, str]:
    """Take over what a round of fixes achieved; returns the stages that wait again, and why."""
    board.advance(recovered.head)
    reopened: dict[str, str] = {}
    for fix in recovered.merged:
        add_fix(board, fix)
        reopened |= _void_verdicts(board, fix)
    for key in recovered.cleared:
        board.failures.pop(key, None)
    stand_ins = (outcome for _, outcome in recovered.replaced)
    for outcome in (*recovered.outcomes, *stand_ins):
        board.settle(outcome)
        reopened.pop(outcome.stage, None)
    for failure in recovered.failures:
        board.fail(failure)
    for given_up in recovered.given_up:
        board.tally.given_up[given_up.gate] = given_up.reason
    return reopened | _unblock(board)


def _void_verdicts(board: Board, fix: MergedFix) -> dict[str, str]:
    """Reopen the verdicts that a fix of an implementer voids.

    Those of the testers of its side, and of whoever judges both sides.

    Source: design, section 3, "Merges and builds".
    """
    agent = TEAM[fix.owner]
    if agent.role is not Role.IMPLEMENTATION:
        return {}
    why = f"Its verdict is void: {fix.number} has changed the {agent.side} since."
    void = {s.name: why for s in board.pipeline.stages if _is_judged(board, s, agent.side)}
    for name in void:
        board.cards[name] = replace(board.cards[name], state=StageState.WAITING, flags=())
    return void


def _is_judged(board: Board, stage: Stage, side: Side | None) -> bool:
    judge = TEAM[stage.agent]
    judges_it = judge.role in VERDICTS and judge.role is not Role.CRITIQUE
    is_done = board.cards[stage.name].state is StageState.COMPLETED
    return is_done and judges_it and judge.side in (side, None)


def _unblock(board: Board) -> dict[str, str]:
    """Let everything that could not start wait again, once nothing is red any more."""
    if board.failures:
        return {}
    names = [blocked.stage.name for blocked in board.blocked_stages()]
    for name in names:
        run_again(board, name)
    return dict.fromkeys(names, "What it needs is repaired.")
