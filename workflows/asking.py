"""Waiting for a human, with reminders that come ever more seldom."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.records import RecordActivities
    from pipeline.model import Reminder
    from workflows import options
    from workflows.execution import Execution
    from workflows.questions import Questions


async def ask(execution: Execution, questions: Questions) -> None:
    """Wait until an answer sets something going, or gives the requirement up; days, if need be.

    Each reminder waits twice as long as the one before, so that the history stays small.
    """
    asked_at, reminders, answers = workflow.now(), 0, execution.counts.answers
    patience = execution.order.pipeline.bounds.reminder
    while not await _answered(execution, answers, patience):
        patience *= 2
        reminders += 1
        await execution.insist(
            RecordActivities.remind,
            Reminder(execution.ref, execution.counts.escalations, reminders),
            **options.central(f"Reminder {reminders}"),
        )
    questions.waited(workflow.now() - asked_at)


async def _answered(execution: Execution, answers: int, patience: timedelta) -> bool:
    """Whether more answers were given than those before; what they set going may be over again."""
    try:
        await workflow.wait_condition(
            lambda: bool(execution.abort) or execution.counts.answers > answers,
            timeout=patience,
            timeout_summary="Remind a human",
        )
    except TimeoutError:
        return False
    return True
