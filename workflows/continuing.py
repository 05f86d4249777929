"""A requirement that goes on for long continues as new: no history grows without bound."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pipeline.failures import shared_out
    from pipeline.model import Carried
    from pipeline.repairs import restore, standing
    from workflows.execution import Execution
    from workflows.gates import BuildGates
    from workflows.questions import Questions

EVENTS = 1_000
"""Length of a history after which the next quiet moment is used; Temporal's limit is 51,200."""


def is_long() -> bool:
    """Whether it is time to continue as new."""
    info = workflow.info()
    return info.get_current_history_length() > EVENTS or info.is_continue_as_new_suggested()


def carry(execution: Execution, gates: BuildGates, questions: Questions) -> Carried:
    """What the next run must know. Nothing may be under way: no stage, no build, no child."""
    assert execution.opening  # a history does not grow long before a host has taken it
    return Carried(
        opening=execution.opening,
        parallel=execution.turnstile.parallel,
        standing=standing(execution.board),
        failures=shared_out(execution.board.open_failures()),
        tally=execution.board.tally,
        proofs=gates.proofs,
        asked=questions.asked,
        spent=questions.spent(),
        counts=execution.counts,
    )


def take_up(
    carried: Carried, execution: Execution, gates: BuildGates, questions: Questions
) -> None:
    """Stand where the run before has stood."""
    board = execution.board
    execution.take(carried.opening)
    execution.turnstile.parallel = carried.parallel
    execution.counts = carried.counts
    restore(board, carried.standing)
    board.failures = {(each.stage, each.gate): each for each in carried.failures}
    board.tally = carried.tally
    gates.take(carried.proofs)
    questions.take_up(carried.asked, carried.spent)
