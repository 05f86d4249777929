from dataclasses import replace

from pipeline.board import Board
from pipeline.undo import plan_of_undo, take_revert
from tests.plans import a_plan, a_stage


def test_the_builds_of_a_plan_are_verified_though_nobody_works() -> None:
    plan = a_plan(
        a_stage("Research", "cynthia"),
        replace(a_stage("Backend", "roy", needs=("Research",)), builds=("backend",)),
        replace(a_stage("Late", "jen", needs=("Backend",)), builds=("frontend", "backend")),
    )

    undo = plan_of_undo(plan)
    board = Board(undo)
    take_revert(board)

    assert undo.builds == plan.builds == ("backend", "frontend")
    assert [stage.name for stage in undo.stages] == ["Backend", "Late"]
    assert board.is_green()
    assert board.waiting() == ()
    assert board.work.built() == ("Backend#1", "Late#1")
    assert undo.bounds.reds == 1
