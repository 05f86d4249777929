"""What a pause stops, and what becomes of one that is asked for twice."""

from datetime import UTC, datetime

import pytest

from pipeline.errors import RefusedInput
from pipeline.model import OPENING, PRE_EMPTION
from pipeline.pauses import ALL, Pause, PauseKind, strengthened
from pipeline.plan_rules import DELIVER

DRAIN, PAUSE, SUSPEND = PauseKind
BOUNDARIES = (OPENING, "Backend QA", "build backend", DELIVER, PRE_EMPTION)


def a_pause(kind: PauseKind, scope: str = "REQ-1") -> Pause:
    return Pause(scope, kind, datetime(2026, 1, 5, 9, 0, tzinfo=UTC), "ada")


@pytest.mark.parametrize(
    ("kind", "held"), [(DRAIN, BOUNDARIES[:1]), (PAUSE, BOUNDARIES[:4]), (SUSPEND, BOUNDARIES)]
)
def test_each_kind_stops_more(kind: PauseKind, held: tuple[str, ...]) -> None:
    assert tuple(filter(a_pause(kind).holds, BOUNDARIES)) == held


@pytest.mark.parametrize(
    ("before", "asked", "after"),
    [
        (None, DRAIN, DRAIN),
        (DRAIN, DRAIN, DRAIN),
        (DRAIN, PAUSE, PAUSE),
        (PAUSE, SUSPEND, SUSPEND),
        (SUSPEND, PAUSE, SUSPEND),
    ],
)
def test_the_stronger_of_two_holds(
    before: PauseKind | None, asked: PauseKind, after: PauseKind
) -> None:
    assert strengthened(a_pause(before, ALL) if before else None, asked) is after


@pytest.mark.parametrize("before", [PAUSE, SUSPEND])
def test_what_is_paused_cannot_be_drained(before: PauseKind) -> None:
    with pytest.raises(RefusedInput, match=r"continues with: python .* unpause --all"):
        strengthened(a_pause(before, ALL), DRAIN)
