import json

import pytest

from pipeline.model import FailureKind, StageState
from pipeline.notice import Notice, NoticeStatus, parse_notice
from pipeline.team import TEAM
from pipeline.verdicts import Judgement, green_notice, judge
from tests.plans import a_stage

TESTERS = ("billy", "liz", "todd", "vic")


def judged(agent: str, status: str = "COMPLETE", **fields: object) -> Judgement:
    notice = Notice(agent, "REQ-1", NoticeStatus(status), "the summary", **fields)  # type: ignore[arg-type]  # the case tables hold plain objects
    return judge(a_stage("Work", agent), notice)


def red(judgement: Judgement) -> tuple[StageState, FailureKind, str, tuple[str, ...], str]:
    failure = judgement.failure
    assert failure is not None
    assert failure.stage == "Work"
    return judgement.state, failure.kind, failure.gate, failure.owners, failure.error


@pytest.mark.parametrize("agent", TEAM)
def test_the_green_notice_completes_the_stage(agent: str) -> None:
    output = f"```json\n{json.dumps(green_notice(TEAM[agent], 'REQ-1'))}\n```"
    notice = parse_notice(output, agent=TEAM[agent], number="REQ-1")

    judgement = judge(a_stage("Work", agent), notice)

    assert judgement.state is StageState.COMPLETED
    assert judgement.failure is None


@pytest.mark.parametrize("agent", TEAM)
def test_a_failed_agent_owns_its_failure(agent: str) -> None:
    judgement = judged(agent, "FAILED", failures=("a", "b"))

    assert red(judgement) == (
        StageState.FAILED,
        FailureKind.FAILED,
        "run Work",
        (agent,),
        "a\nb",
    )


@pytest.mark.parametrize("agent", TEAM)
def test_a_blocked_agent_asks_a_human(agent: str) -> None:
    judgement = judged(agent, "BLOCKED")

    assert red(judgement) == (
        StageState.BLOCKED,
        FailureKind.BLOCKED,
        "run Work",
        (agent,),
        "the summary",
    )


@pytest.mark.parametrize("agent", TESTERS)
def test_a_blocked_tester_with_failures_is_a_fail(agent: str) -> None:
    judgement = judged(agent, "BLOCKED", failures=("broken",))

    assert red(judgement)[:3] == (StageState.FAILED, FailureKind.VERDICT, "verdict Work")
    assert judgement.verdict == "FAIL"


@pytest.mark.parametrize("agent", ["sylvia", "roy", "priya"])
def test_failures_of_a_blocked_agent_that_does_not_test_are_told_to_the_human(agent: str) -> None:
    judgement = judged(agent, "BLOCKED", failures=("no compiler",))

    assert red(judgement)[1] is FailureKind.BLOCKED
    assert red(judgement)[4] == "no compiler"


@pytest.mark.parametrize("verdict", ["APPROVED", "APPROVED_WITH_CONDITIONS"])
def test_an_approving_critique_goes_on(verdict: str) -> None:
    judgement = judged("sylvia", critique_verdict=verdict, required_fixes=("x",))

    assert judgement == Judgement(StageState.COMPLETED, verdict)


@pytest.mark.parametrize("verdict", ["REQUEST_CHANGES", "ESCALATE"])
def test_any_other_critique_blocks_with_its_reasons(verdict: str) -> None:
    judgement = judged("sylvia", critique_verdict=verdict, reasons=("too wide", "no tests"))

    assert red(judgement) == (
        StageState.BLOCKED,
        FailureKind.CRITIQUE,
        "critique Work",
        ("cynthia",),
        "too wide\nno tests",
    )
    assert judgement.verdict == verdict


@pytest.mark.parametrize(
    ("agent", "field"),
    [
        ("sylvia", "critique_verdict"),
        *((agent, "test_result") for agent in TESTERS),
        ("priya", "overall"),
    ],
)
def test_a_missing_verdict_is_an_invalid_notice_never_an_approval(agent: str, field: str) -> None:
    judgement = judged(agent)

    assert red(judgement) == (
        StageState.FAILED,
        FailureKind.NOTICE,
        "run Work",
        (agent,),
        f"The notice of {agent} lacks its {field}.",
    )
    assert judgement.failure is not None
    assert judgement.failure.kind.is_unanswered


@pytest.mark.parametrize(
    ("agent", "owner", "owners"),
    [
        ("billy", "", ("roy",)),
        ("liz", "", ("jen",)),
        ("billy", "frontend", ("roy",)),
        ("todd", "backend", ("roy",)),
        ("todd", "Roy", ("roy",)),
        ("vic", "FRONTEND", ("jen",)),
        ("vic", "jen", ("jen",)),
        ("vic", "", ("roy", "jen")),
        ("vic", "somebody", ("roy", "jen")),
        ("priya", "frontend", ("jen",)),
        ("priya", "", ("roy", "jen")),
    ],
)
def test_a_fail_is_owned_by_the_side_under_test(
    agent: str, owner: str, owners: tuple[str, ...]
) -> None:
    field = "overall" if agent == "priya" else "test_result"

    judgement = judged(agent, failures=("slow",), owner=owner, **{field: "FAIL"})

    assert red(judgement) == (
        StageState.FAILED,
        FailureKind.VERDICT,
        "verdict Work",
        owners,
        "slow",
    )
    assert judgement.verdict == "FAIL"


def test_pass_stands_beside_listed_failures() -> None:
    judgement = judged("billy", test_result="PASS", failures=("a known one",))

    assert judgement == Judgement(StageState.COMPLETED, "PASS")


def test_an_error_is_cut_and_never_empty() -> None:
    long = judged("billy", test_result="FAIL", failures=("x" * 5_000, "y" * 5_000))
    blank = judged("billy", test_result="FAIL", failures=(" ", ""))

    assert len(red(long)[4]) == 8_000
    assert red(blank)[4] == "the summary"
