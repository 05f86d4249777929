"""What an accepted notice means for its stage, and what a green one looks like."""

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
