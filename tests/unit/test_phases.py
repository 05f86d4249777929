from itertools import product

import pytest

from pipeline.errors import IllegalTransition
from pipeline.model import RequirementState, StageState
from pipeline.phases import (
    REQUIREMENT_MOVES,
    STAGE_MOVES,
    check_requirement_move,
    check_stage_move,
)

REQUIREMENT_LIFE = {
    "ACCEPTED": "RUNNING HELD DELIVERED FAILED CANCELLED",
    "RUNNING": "HELD BLOCKED DELIVERED FAILED CANCELLED",
    "HELD": "RUNNING BLOCKED ACCEPTED DELIVERED FAILED CANCELLED",
    "BLOCKED": "RUNNING HELD DELIVERED FAILED CANCELLED",
    "DELIVERED": "",
    "FAILED": "",
    "CANCELLED": "",
}
STAGE_LIFE = {
    "waiting": "held running skipped blocked",
    "held": "running waiting skipped blocked",
    "running": "completed failed blocked held",
    "completed": "waiting",
    "skipped": "waiting",
    "failed": "waiting running completed",
    "blocked": "waiting completed",
}


@pytest.mark.parametrize(
    ("source", "target"), tuple(product(RequirementState, RequirementState)), ids=str
)
def test_a_requirement_moves_only_as_its_life_allows(
    source: RequirementState, target: RequirementState
) -> None:
    if target in REQUIREMENT_LIFE[source].split():
        check_requirement_move(source, target)
    else:
        with pytest.raises(IllegalTransition, match=f"from {source} to {target}"):
            check_requirement_move(source, target)


@pytest.mark.parametrize(("source", "target"), tuple(product(StageState, StageState)), ids=str)
def test_a_stage_moves_only_as_its_life_allows(source: StageState, target: StageState) -> None:
    if target in STAGE_LIFE[source].split():
        check_stage_move(source, target)
    else:
        with pytest.raises(IllegalTransition, match=f"from {source} to {target}"):
            check_stage_move(source, target)


def test_what_ended_stays_ended_and_no_stage_is_a_dead_end() -> None:
    for state, targets in REQUIREMENT_MOVES.items():
        assert state.is_final == (not targets)
    assert all(STAGE_MOVES[state] for state in StageState)
