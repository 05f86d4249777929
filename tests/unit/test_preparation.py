from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pipeline.model import (
    BuildResult,
    BuildStep,
    FailureKind,
    FailureLog,
    Preparation,
    RunEnd,
    StageContext,
)
from pipeline.preparation import failed, is_started, told_of
from tests.fixtures_workspaces import stage_request

NOW = datetime(2026, 11, 29, tzinfo=UTC)
RED = Preparation(
    "backend",
    BuildResult(
        RunEnd.EXITED,
        1,
        "added 3 packages\nnpm error code E404\n",
        NOW,
        NOW,
        "prepare.log",
        steps=(BuildStep("prepare backend", ("npm", "ci"), 2.5),),
    ),
)
LATE = replace(RED, result=replace(RED.result, end=RunEnd.TIMED_OUT, exit_code=None, reason="late"))
GREEN = replace(RED, result=replace(RED.result, exit_code=0))
NOBODY = ""


@pytest.mark.parametrize(
    ("agent", "preparation", "owner", "repairs", "starts"),
    [
        ("billy", GREEN, "roy", False, True),
        ("billy", RED, "roy", False, False),
        ("billy", RED, NOBODY, False, False),
        ("roy", RED, "roy", False, True),  # it mends what it has broken
        ("roy", RED, "billy", False, False),
        ("roy", RED, "billy", True, True),  # a build is red, and its fix finds the same
        ("roy", RED, NOBODY, False, False),
        ("roy", replace(RED, has_manifest=False), NOBODY, False, True),  # it makes the side
        ("billy", replace(RED, has_manifest=False), NOBODY, False, False),
    ],
)
def test_who_starts_in_a_clone_that_is_not_prepared(
    agent: str, preparation: Preparation, owner: str, repairs: bool, starts: bool
) -> None:
    request = stage_request(None, "A stage", agent=agent)

    assert is_started(request, preparation, owner, repairs=repairs) is starts


def test_who_starts_all_the_same_is_told_why_it_failed_and_gets_the_log() -> None:
    told = told_of(StageContext("A title", "", failures=("another",)), RED)

    assert told.failures[0] == "another"
    assert told.failures[1].startswith("prepare backend: The clone could not be prepared")
    assert "npm error code E404" in told.failures[1]
    assert told.logs == (FailureLog("prepare backend", "prepare.log"),)


@pytest.mark.parametrize(
    ("preparation", "owner", "kind", "owners"),
    [
        (RED, "roy", FailureKind.PREPARE, ("roy",)),
        (RED, NOBODY, FailureKind.INFRASTRUCTURE, ()),
        (LATE, "roy", FailureKind.INFRASTRUCTURE, ()),
    ],
)
def test_whose_a_failed_prepare_is(
    preparation: Preparation, owner: str, kind: FailureKind, owners: tuple[str, ...]
) -> None:
    failure = failed(stage_request(None, "Backend QA", agent="billy"), preparation, owner)

    assert (failure.kind, failure.owners, failure.gate) == (kind, owners, "prepare backend")
    assert "npm ci" in failure.error
    assert "npm error code E404" in failure.error
    assert failure.log_reference == "prepare.log"
    assert kind.is_red is (kind is FailureKind.PREPARE)
