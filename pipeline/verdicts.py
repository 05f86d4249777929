"""What an accepted notice means for its stage, what a green one looks like, and by which rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.failures import cut, signature
from pipeline.model import Failure, FailureKind, Stage, StageState
from pipeline.notice import VERDICTS, Notice, NoticeStatus, Verdict
from pipeline.team import Agent, Role

_GREEN_ANSWERS: Mapping[str, Mapping[str, object]] = MappingProxyType(
    {
        Role.CRITIQUE: {"critique_verdict": "APPROVED"},
        Role.IMPLEMENTATION: {"no_changes_needed": "Nothing was asked for but this notice."},
        Role.QA: {"test_result": "PASS"},
        Role.SPECIALIST: {"test_result": "PASS"},
        Role.STATISTICS: {"overall": "PASS"},
    }
)

_FAIL = "FAIL"
RED_VERDICTS = (_FAIL, "REQUEST_CHANGES", "ESCALATE")
"""Verdicts that let nothing pass: the work under review is red, and the review in order."""


@dataclass(frozen=True)
class Judgement:
    """What a notice makes of its stage; `verdict` is empty where the role gives none."""

    state: StageState
    verdict: str
    failure: Failure | None = None


def judge(stage: Stage, notice: Notice) -> Judgement:
    """The stage's state after that notice; whatever is not plainly green is a failure.

    Status FAILED is the agent's own answer. BLOCKED of a tester who lists failures is a FAIL, any
    other BLOCKED asks a human. A COMPLETE without the verdict of its role is an invalid notice.
    PASS stands even where failures are listed: the tester weighed them.

    Source: design, section 2, rule 2, and section 3, "Critique" and "QA".
    """
    verdict = verdict_of(notice)
    if notice.status is NoticeStatus.FAILED:
        return _run_failed(stage, notice, verdict, FailureKind.FAILED)
    if notice.status is NoticeStatus.BLOCKED:
        if notice.failures and stage.member.role in (Role.QA, Role.SPECIALIST):
            return _tests_failed(stage, notice)
        return _run_failed(stage, notice, verdict, FailureKind.BLOCKED)
    expected = VERDICTS.get(stage.member.role)
    if expected and not verdict:
        return _without_verdict(stage, expected)
    if verdict == _FAIL:
        return _tests_failed(stage, notice)
    if verdict in RED_VERDICTS:
        return _critique_red(stage, notice, verdict)
    return Judgement(StageState.COMPLETED, verdict)


def verdict_of(notice: Notice) -> str:
    """The one verdict that a notice carries, empty where it carries none."""
    return notice.critique_verdict or notice.test_result or notice.overall


def green_notice(agent: Agent, number: str) -> dict[str, object]:
    """The notice with which that agent reports success, its role's verdict included."""
    return {
        "agent": agent.name,
        "req_number": number,
        "status": "COMPLETE",
        "summary": f"{agent.name} completed {agent.role}.",
        **_GREEN_ANSWERS.get(agent.role, {}),
        **dict.fromkeys(agent.raises, False),
    }


def _run_failed(stage: Stage, notice: Notice, verdict: str, kind: FailureKind) -> Judgement:
    state = StageState.BLOCKED if kind is FailureKind.BLOCKED else StageState.FAILED
    error = _error(notice.failures or notice.reasons, notice)
    gate, said = f"run {stage.name}", signature(error)
    failure = Failure(stage.name, kind, gate, (stage.agent,), error, signature=said)
    return Judgement(state, verdict, failure)


def _without_verdict(stage: Stage, expected: Verdict) -> Judgement:
    error = f"The notice of {stage.agent} lacks its {expected}."
    failure = Failure(stage.name, FailureKind.NOTICE, f"run {stage.name}", (stage.agent,), error)
    return Judgement(StageState.FAILED, "", failure)


def _tests_failed(stage: Stage, notice: Notice) -> Judgement:
    failure = Failure(
        stage.name,
        FailureKind.VERDICT,
        f"verdict {stage.name}",
        _owners(stage, notice),
        _error(notice.failures, notice),
        signature=signature("\n".join(notice.failures)),
    )
    return Judgement(StageState.FAILED, _FAIL, failure)


def _critique_red(stage: Stage, notice: Notice, verdict: str) -> Judgement:
    failure = Failure(
        stage.name,
        FailureKind.CRITIQUE,
        f"critique {stage.name}",
        tuple(name for _, name in stage.member.owners),
        _error(notice.reasons, notice),
    )
    return Judgement(StageState.BLOCKED, verdict, failure)


def _owners(stage: Stage, notice: Notice) -> tuple[str, ...]:
    """Those whose work it judges and whom, or whose side, the notice names; else all of them."""
    owners, named = stage.member.owners, notice.owner.lower()
    chosen = tuple(name for side, name in owners if named in (side, name))
    return chosen or tuple(name for _, name in owners)


def _error(details: Sequence[str], notice: Notice) -> str:
    return cut("\n".join(details).strip() or notice.summary)


_GREEN: Mapping[str, str] = MappingProxyType(
    {
        Role.CRITIQUE: "APPROVED and APPROVED_WITH_CONDITIONS let the plan go on; conditions are"
        " handed to those who implement and test.",
        Role.QA: "test_result PASS is green; a flag asks for a specialist.",
        Role.SPECIALIST: "test_result PASS is green.",
        Role.STATISTICS: "overall PASS is green.",
    }
)
_COMPLETE = "A valid notice that says COMPLETE, and changes that merge, complete the stage."

_UNSEEN = "Nobody saw it end: its host was lost, or its requirement ended first."

_RED: Mapping[FailureKind, str] = MappingProxyType(
    {
        FailureKind.CRASH: "A run that ends without a valid notice failed, whatever it printed.",
        FailureKind.TIMEOUT: "A run that misses its deadline and the grace after it is ended.",
        FailureKind.NOTICE: "A notice that breaks a rule is none, and so is one without the verdict"
        " of its role.",
        FailureKind.UNREAD: "Output that nobody has searched may hold the answer: a human looks.",
        FailureKind.FAILED: "FAILED is the agent's own answer; so is an error beside COMPLETE.",
        FailureKind.BLOCKED: "BLOCKED asks a human, unless a tester lists failures.",
        FailureKind.CRITIQUE: "REQUEST_CHANGES sends research back, within the bound of reviews;"
        " ESCALATE asks a human.",
        FailureKind.VERDICT: "FAIL is red, and is owned by the side under test.",
        FailureKind.BUILD: "A build's exit code decides, not the words in its output.",
        FailureKind.PREPARE: "An agent does not start in a clone that could not be prepared.",
        FailureKind.CONFLICT: "A conflict is owned by the later of two merges.",
        FailureKind.DELIVERY: "The target branch moves only by a fast-forward that it allows.",
        FailureKind.INFRASTRUCTURE: "What no agent can repair asks a human and blames no agent.",
        FailureKind.PRE_EMPTED: "A run that died while it was suspended is repeated.",
        FailureKind.LIMITED: "A run whose account cannot work is held, and owes nothing.",
        FailureKind.HOST_LOST: "A run whose host is lost is repeated on another one.",
        FailureKind.REFUSED: "What is refused before any work would be refused again: a human.",
        FailureKind.ENDED: "Somebody has ended it.",
    }
)


@dataclass(frozen=True)
class Decision:
    """What was decided of a run, and by which rule; `rule` is empty while nothing is decided."""

    said: str
    rule: str


def decision(
    role: str,
    state: StageState,
    verdict: str,
    kind: FailureKind | None,
    *,
    is_answered: bool,
    was_seen: bool = True,
) -> Decision:
    """What was made of a run that ended so; `role` is its agent's.

    `kind` is that of the failure that was reported of it, `is_answered` says whether its notice was
    accepted, `was_seen` whether its end was. A failed run that was repeated at once has been
    reported nowhere: it has no kind.
    """
    said = f"{state}, {verdict}" if verdict else str(state)
    if state is StageState.COMPLETED:
        return Decision(said, _GREEN.get(role, _COMPLETE) if verdict else _COMPLETE)
    if not state.is_red:
        return Decision(said, "")
    if kind is not None:
        return Decision(f"{said}: {kind}", _RED[kind])
    if not was_seen:
        return Decision(said, _UNSEEN)
    if not is_answered:
        return Decision(said, _RED[FailureKind.CRASH])
    return Decision(said, "")
