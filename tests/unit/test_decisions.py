import pytest

from pipeline.model import FailureKind, StageState
from pipeline.team import TEAM, Role
from pipeline.verdicts import decision

COMPLETED, FAILED, BLOCKED = StageState.COMPLETED, StageState.FAILED, StageState.BLOCKED


@pytest.mark.parametrize(
    ("agent", "state", "verdict", "kind", "is_answered", "said", "rule"),
    [
        ("roy", COMPLETED, "", None, True, "completed", "A valid notice"),
        ("sylvia", COMPLETED, "APPROVED", None, True, "completed, APPROVED", "APPROVED and"),
        # a human passed it without a verdict
        ("sylvia", COMPLETED, "", None, True, "completed", "A valid notice"),
        ("billy", FAILED, "FAIL", FailureKind.VERDICT, True, "failed, FAIL: verdict", "FAIL is"),
        ("roy", FAILED, "", FailureKind.CONFLICT, True, "failed: conflict", "A conflict"),
        ("roy", FAILED, "", None, False, "failed", "A run that ends without"),
        ("tim", BLOCKED, "", FailureKind.BLOCKED, True, "blocked: blocked", "BLOCKED asks"),
        ("tim", StageState.RUNNING, "", None, False, "running", ""),
        ("tim", StageState.HELD, "", None, False, "held", ""),
    ],
)
def test_a_run_is_judged_by_a_rule(
    agent: str,
    state: StageState,
    verdict: str,
    kind: FailureKind | None,
    is_answered: bool,
    said: str,
    rule: str,
) -> None:
    found = decision(TEAM[agent].role, state, verdict, kind, is_answered=is_answered)

    assert found.said == said
    assert found.rule.startswith(rule) if rule else not found.rule


def test_a_run_that_nobody_saw_end_is_not_said_to_have_crashed() -> None:
    lost = decision(Role.IMPLEMENTATION, FAILED, "", None, is_answered=False, was_seen=False)

    assert lost.rule.startswith("Nobody saw it end")


@pytest.mark.parametrize("kind", FailureKind)
def test_every_kind_of_failure_has_its_rule(kind: FailureKind) -> None:
    found = decision(Role.IMPLEMENTATION, FAILED, "", kind, is_answered=True)

    assert found.said == f"failed: {kind}"
    assert found.rule.endswith(".")
