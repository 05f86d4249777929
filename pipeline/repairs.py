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
    WorkSnapshot,
)

_REPAIRED = "What it needs is repaired."
_INSTALLABLE = "What its clone needs is repaired."

REASON_LENGTH = 200

Key = tuple[str, str]
"""Stage and gate of a failure."""


def snapshot(board: Board) -> WorkSnapshot:
    """Every entry as a message; reasons are truncated, for there may be sixty-four stages."""
    entries = {
        name: replace(entry, reason=cut(entry.reason, REASON_LENGTH), summary="")
        for name, entry in board.entries.items()
    }
    return WorkSnapshot(board.head, entries)


def restore(board: Board, message: WorkSnapshot) -> None:
    """Set the board to the state in the message."""
    board.advance(message.head)
    board.entries.update(message.entries)


def add_fix(board: Board, fix: MergedFix) -> None:
    """Count a merged fix as part of its stage: older evidence becomes stale."""
    entry = board.entries[fix.stage]
    entry.fixes, entry.merged = (*entry.fixes, fix.number), fix.head


def run_again(board: Board, name: str, why: str) -> None:
    """Reopen this one stage, with all its tries."""
    entry = board.entries[name]
    board.entries[name] = replace(
        entry, state=StageState.WAITING, reason=why, flags=(), tries=0, losses=0, resumes=False
    )


def outcome_of(board: Board, name: str) -> StageOutcome:
    """The outcome of a stage that ran again; one that a build blocks carries no failure."""
    entry = board.entries[name]
    return StageOutcome(
        stage=name,
        attempt=entry.attempt,
        state=entry.state,
        head=None,
        parallel=True,
        verdict=entry.verdict,
        flags=entry.flags,
        failure=next((f for f in board.open_failures() if f.stage == name), None),
        reviewed=entry.reviewed,
        base=entry.base,
        cost=entry.cost,
    )


def substitute(
    board: Board, failure: Failure, report: DeliveryReport, reviewed: tuple[str, ...]
) -> StageOutcome:
    """The end of a stage whose run failed, as its fix answered in its place.

    `reviewed` is the work that was merged when the fix began.
    A verdict that is red is an answer: the run is repaired, and the verdict fails.
    """
    red = report.failures[0] if report.failures else None
    if red:
        word = "critique" if red.kind is FailureKind.CRITIQUE else "verdict"
        red = replace(red, stage=failure.stage, gate=f"{word} {failure.stage}")
    return StageOutcome(
        stage=failure.stage,
        attempt=board.entries[failure.stage].attempt,
        state=StageState.FAILED if red else StageState.COMPLETED,
        head=None,
        parallel=True,
        summary=report.reason,
        verdict=report.verdict,
        flags=report.flags,
        failure=red,
        reviewed=reviewed,
    )


def apply_results(board: Board, recovered: Recovered) -> Mapping[str, str]:
    """Apply the results of a round of fixes; returns the reopened stages, and why."""
    board.advance(recovered.head)
    for name, attempt in recovered.attempts:
        board.entries[name].attempt = max(attempt, board.entries[name].attempt)
    for fix in recovered.merged:
        add_fix(board, fix)
    unprepared = {
        key[0]: _INSTALLABLE
        for key in recovered.green
        if key in board.failures and board.failures[key].kind is FailureKind.PREPARE
    }
    for key in recovered.cleared:
        board.failures.pop(key, None)
    for _, gate in recovered.green:
        board.counters.reset_streak(gate)
    substitutes = (outcome for _, outcome in recovered.replaced)
    for outcome in (*substitutes, *recovered.outcomes):
        board.apply(outcome)
        if outcome.cost.is_known:  # of all its runs: its entry went to the round and comes back
            board.entries[outcome.stage].cost = outcome.cost
    for failure in recovered.failures:
        board.fail(failure)
    for given_up in recovered.given_up:
        board.counters.given_up[given_up.gate] = given_up.reason
    again = board.work.stale_verdicts() | unprepared
    for name, why in again.items():
        run_again(board, name, why)
    return again | unblock(board)


def unblock(board: Board) -> dict[str, str]:
    """Reopen every blocked stage once nothing is red."""
    if board.failures:
        return {}
    names = [blocked.stage.name for blocked in board.blocked_stages()]
    for name in names:
        run_again(board, name, _REPAIRED)
    return dict.fromkeys(names, _REPAIRED)
