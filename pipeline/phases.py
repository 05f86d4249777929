"""The life cycle: which phase changes of a requirement and of a stage are legal.

A phase in the SDLC database is a state of a requirement or of a stage; every change of one is
checked here before it is written.
"""

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.errors import IllegalTransition
from pipeline.model import RequirementState, StageState

_ENDS = frozenset(state for state in RequirementState if state.is_final)
OPEN_STATES = tuple(state for state in RequirementState if not state.is_final)

REQUIREMENT_MOVES: Mapping[RequirementState, frozenset[RequirementState]] = MappingProxyType(
    {
        RequirementState.ACCEPTED: _ENDS | {RequirementState.RUNNING, RequirementState.HELD},
        RequirementState.RUNNING: _ENDS | {RequirementState.HELD, RequirementState.BLOCKED},
        # held -> accepted: no host has taken it yet
        RequirementState.HELD: _ENDS
        | {RequirementState.RUNNING, RequirementState.BLOCKED, RequirementState.ACCEPTED},
        RequirementState.BLOCKED: _ENDS | {RequirementState.RUNNING, RequirementState.HELD},
        **{state: frozenset() for state in _ENDS},
    }
)
"""Where a requirement may go from each state. Source: design, section 1, "Terms"."""

STAGE_MOVES: Mapping[StageState, frozenset[StageState]] = MappingProxyType(
    {
        StageState.WAITING: frozenset(
            {StageState.HELD, StageState.RUNNING, StageState.SKIPPED, StageState.BLOCKED}
        ),
        # held -> skipped, blocked: what it builds on has changed while it was held
        StageState.HELD: frozenset(
            {StageState.RUNNING, StageState.WAITING, StageState.SKIPPED, StageState.BLOCKED}
        ),
        StageState.RUNNING: frozenset(
            # held: a crash kept it from its start, and a P0 was opened meanwhile
            {StageState.COMPLETED, StageState.FAILED, StageState.BLOCKED, StageState.HELD}
        ),
        StageState.COMPLETED: frozenset({StageState.WAITING}),
        StageState.SKIPPED: frozenset({StageState.WAITING}),
        # failed -> running is the next declared attempt; the way over waiting is a reopening;
        # failed -> completed is a fix that stands for the stage
        StageState.FAILED: frozenset(
            {StageState.WAITING, StageState.RUNNING, StageState.COMPLETED}
        ),
        # blocked -> completed is a verdict that a human passed, or a fix
        StageState.BLOCKED: frozenset({StageState.WAITING, StageState.COMPLETED}),
    }
)
"""Where a stage may go from each state."""


def check_requirement_move(source: RequirementState, target: RequirementState) -> None:
    """Let a legal phase change of a requirement pass. Raises: IllegalTransition."""
    if target not in REQUIREMENT_MOVES[source]:
        raise IllegalTransition(f"A requirement cannot go from {source} to {target}.")


def check_stage_move(source: StageState, target: StageState) -> None:
    """Let a legal phase change of a stage pass. Raises: IllegalTransition."""
    if target not in STAGE_MOVES[source]:
        raise IllegalTransition(f"A stage cannot go from {source} to {target}.")
