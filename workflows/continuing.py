"""Continue-as-new: no history grows without bound, and the next run knows what this one knew."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pipeline import repairs
    from pipeline.failures import truncated
    from pipeline.model import Carried
    from workflows.execution import Execution
    from workflows.gates import BuildGates
    from workflows.humans import Questions

EVENTS = 1_000
"""Length of a history after which the next quiet moment is used; Temporal's limit is 51,200."""


def is_long() -> bool:
    """Whether it is time to continue as new."""
    info = workflow.info()
    return info.get_current_history_length() > EVENTS or info.is_continue_as_new_suggested()


def snapshot(execution: Execution, gates: BuildGates, questions: Questions) -> Carried:
    """What the next run must know. Nothing may be under way: no stage, no build, no child."""
    assert execution.opening  # a history does not grow long before a host has taken it
    return Carried(
        opening=execution.opening,
        parallel=execution.serial_lock.parallel,
        snapshot=repairs.snapshot(execution.board),
        failures=truncated(execution.board.open_failures()),
        counters=execution.board.counters,
        proofs=gates.proofs,
        asked=questions.asked,
        spent=questions.spent(),
        counts=execution.counts,
    )


def restore(
    carried: Carried, execution: Execution, gates: BuildGates, questions: Questions
) -> None:
    """Start from the snapshot of the run before."""
    board = execution.board
    execution.take(carried.opening)
    execution.serial_lock.parallel = carried.parallel
    execution.counts = carried.counts
    repairs.restore(board, carried.snapshot)
    board.failures = {(each.stage, each.gate): each for each in carried.failures}
    board.counters = carried.counters
    gates.take(carried.proofs)
    questions.restore(carried.asked, carried.spent)
