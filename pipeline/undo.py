"""Undoing a delivered requirement: a requirement without agents, whose work is one revert."""

from dataclasses import replace

from pipeline.board import Board
from pipeline.model import Pipeline, StageState

REASON = "Nobody works: the revert is made by git."


def plan_of_undo(pipeline: Pipeline) -> Pipeline:
    """The stages that own the builds of a plan: what is delivered is verified by the same builds.

    A red build asks a human at once, for no agent has worked.
    """
    stages = tuple(replace(stage, needs=(), flag=None) for stage in pipeline.stages if stage.builds)
    groups = {stage.group for stage in stages}
    return replace(
        pipeline,
        groups=tuple(replace(each, needs=()) for each in pipeline.groups if each.name in groups),
        stages=stages,
        bounds=replace(pipeline.bounds, reds=1),
    )


def take_revert(board: Board) -> None:
    """Mark every stage as done: its part of the revert is in."""
    for entry in board.entries.values():
        entry.state, entry.attempt, entry.reason = StageState.COMPLETED, 1, REASON
