"""Who gets a failure: its owner as a fix, research once more, or a human."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import PurePosixPath

from pipeline.board import Board
from pipeline.errors import RefusedInput
from pipeline.failures import cut, truncated
from pipeline.graph import ancestors
from pipeline.model import Ask, Bounds, Failure, FailureKind, Fix, Stage
from pipeline.numbers import fix_number
from pipeline.steering import research_of
from pipeline.team import Role

SENDS_BACK = "REQUEST_CHANGES"
"""The verdict of a critique that research can answer."""

_WHY_HUMAN = {
    FailureKind.BLOCKED: "its agent asks",
    FailureKind.INFRASTRUCTURE: "infrastructure failed, which no agent can repair",
    FailureKind.PRE_EMPTED: "it died while it was suspended",
    FailureKind.LIMITED: "the account of its program cannot work",
    FailureKind.HOST_LOST: "its host was lost",
    FailureKind.REFUSED: "it was refused before any work, and a fix would be as well",
    FailureKind.UNREAD: "its answer may stand where nobody has looked, and is not paid twice",
    FailureKind.DELIVERY: "the target branch and the remote are yours",
    FailureKind.ENDED: "somebody has ended it",
}
_FIX_NAME_LENGTH = 60


@dataclass(frozen=True)
class Triage:
    """What is done about a round's failures.

    `rework` names the research to repeat, for those `reasons`; it goes first: what else is red may
    be gone with it, and is seen to afterwards.
    """

    fixes: tuple[Fix, ...] = ()
    asks: tuple[Ask, ...] = ()
    rework: str = ""
    reasons: str = ""


def triage(board: Board, number: str, spent: timedelta) -> Triage:
    """Assign every open failure.

    `spent` is the time that the requirement has taken, without what it waited for humans.
    Source: design, section 3, "Critique", "QA" and "Escalation".
    """
    asks: list[Ask] = []
    fixes: list[Fix] = []
    for failure in truncated(board.open_failures()):
        if research := _research(board, failure):
            return Triage(rework=research.name, reasons=failure.error)
        if why := _why_human(board, failure, spent):
            asks.append(Ask(failure.stage, failure.gate, why))
        else:
            fixes += _fixes(board, number, failure, opened=board.counters.fixes + len(fixes))
    return Triage(tuple(fixes), tuple(asks))


def next_fix(fix: Fix, failure: Failure, bounds: Bounds, spent: timedelta) -> Fix | str:
    """The fix of a fix that did not succeed, or why there is none; `spent` as in `triage`."""
    if failure.kind in _WHY_HUMAN:
        return f"{fix.number}: {_told(failure)}"
    if failure.signature and failure.signature == fix.said:
        return f"{fix.number} failed as before, in the same words"
    if fix.depth + 1 >= bounds.depth:
        return f"{fix.number} failed too, and fixes go {bounds.depth - 1} deep"
    if spent >= bounds.work:
        return f"{fix.number} failed too, and {_overspent(bounds, spent)}"
    came_of_it = f"{fix.number} did not repair it: {failure.error}"
    return replace(
        fix,
        number=fix_number(fix.number, 1),
        parent=fix.number,
        depth=fix.depth + 1,
        failure=replace(fix.failure, error=cut(f"{fix.failure.error}\n{came_of_it}")),
        said=failure.signature,
    )


def _research(board: Board, failure: Failure) -> Stage | None:
    """The research that a critique sends back; None if it must not or cannot be repeated."""
    if failure.kind is not FailureKind.CRITIQUE:
        return None
    asked = board.entries[failure.stage].verdict == SENDS_BACK
    if not asked or board.counters.reviews >= board.pipeline.bounds.reviews:
        return None
    try:
        return research_of(board, board.pipeline.stage(failure.stage))
    except RefusedInput:
        return None


def _why_human(board: Board, failure: Failure, spent: timedelta) -> str:
    bounds, counters, gate = board.pipeline.bounds, board.counters, failure.gate
    reds = counters.reds.get(gate, 0)
    if gate in counters.given_up:
        return counters.given_up[gate]
    if failure.kind is FailureKind.CRITIQUE:
        return _why_verdict(board, failure)
    if failure.kind in _WHY_HUMAN:
        return _told(failure)
    if failure.kind.is_of_run and _deploys(board, failure):
        return "a deployment goes through its gates again, or not at all: retry it"
    if absent := [owner for owner in failure.owners if not _stages_of(board, owner)]:
        return f"{' and '.join(absent)} has no stage in this plan"
    if not failure.owners:
        return "it has no owner"
    if reds >= bounds.reds or bounds.depth <= 1:
        return f"{gate} is red for the {_ordinal(reds)} time"
    if counters.repeated.get(gate):
        return f"{gate} is red again, in the same words"
    if spent >= bounds.work:
        return _overspent(bounds, spent)
    return ""


def _told(failure: Failure) -> str:
    """Why no agent can repair it, and the first line of what happened."""
    return f"{_WHY_HUMAN[failure.kind]}: {failure.error.partition(chr(10))[0]}"


def _why_verdict(board: Board, failure: Failure) -> str:
    verdict = board.entries[failure.stage].verdict or "no verdict"
    reviews = board.counters.reviews
    again = f" after {reviews} reviews" if reviews and verdict == SENDS_BACK else ""
    return f"{failure.stage} says {verdict}{again}"


def _fixes(board: Board, number: str, failure: Failure, *, opened: int) -> Iterator[Fix]:
    for nth, owner in enumerate(failure.owners, opened + 1):
        stage = _stage_of(board, owner, failure)
        yield Fix(
            number=fix_number(number, nth),
            parent=number,
            depth=1,
            owner=owner,
            stage=stage.name,
            failure=failure,
            task=_task(stage, failure),
        )


def _task(stage: Stage, failure: Failure) -> Stage:
    """The owner's own stage, for that one failure: its minutes, deadline and retries."""
    name = f"Fix {failure.gate}"[:_FIX_NAME_LENGTH].strip()
    return replace(stage, name=name, group="Fix", needs=(), flag=None, builds=())


def _stage_of(board: Board, owner: str, failure: Failure) -> Stage:
    """The stage that failed if it is the owner's, else the owner's last one before it."""
    stages = _stages_of(board, owner)
    if any(stage.name == failure.stage for stage in stages):
        return board.pipeline.stage(failure.stage)
    if failure.stage in board.entries:
        before = ancestors(board.pipeline, failure.stage)
        stages = tuple(stage for stage in stages if stage.name in before) or stages
    return stages[-1]


def _stages_of(board: Board, owner: str) -> tuple[Stage, ...]:
    return tuple(stage for stage in board.pipeline.stages if stage.agent == owner)


def _deploys(board: Board, failure: Failure) -> bool:
    """Whether it is a deployment that failed: no fix can stand for one, it knows no gates."""
    entry = failure.stage in board.entries
    return entry and board.pipeline.stage(failure.stage).member.role == Role.DEVOPS


def _ordinal(count: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(count, f"{count}th")


def _overspent(bounds: Bounds, spent: timedelta) -> str:
    hour = timedelta(hours=1)
    return f"{spent / hour:.1f} hours are spent, the bound is {bounds.work / hour:g}"


# --- the owner of a conflict with the target branch -----------------------------------------------


def conflict_owner(
    files: Sequence[str],
    builders: Sequence[tuple[str, str]],
    directories: Mapping[str, str],
) -> tuple[str, ...]:
    """The agent of the build in whose directory most of the files lie; else the first builder.

    `builders` are builds with their agents, `directories` where builds are made. One owner alone:
    two who resolve the same merge would conflict again. Empty where the plan builds nothing.
    """
    count = Counter(
        agent
        for file in files
        for build, agent in builders
        if build in directories and PurePosixPath(file).is_relative_to(directories[build])
    )
    if count:
        return (count.most_common(1)[0][0],)
    return (builders[0][1],) if builders else ()
