"""`retry`, `decide`, `cancel`, `extend`: what a human may say to a running requirement."""

import os
import pwd
from typing import Annotated

import typer
from temporalio.client import WorkflowHandle

from cli import output
from cli.answering import cancelled, steered
from cli.holds_view import leftover_line
from cli.running import load_settings, run
from pipeline.model import (
    Answer,
    DecisionRequest,
    DeliveryReport,
    ExtensionRequest,
    Reopened,
    RetryRequest,
)
from pipeline.steering import check_note
from workflows.requirement import RequirementWorkflow

Handle = WorkflowHandle[RequirementWorkflow, DeliveryReport]

EXAMPLES = {
    "retry": """
Examples:

  python starter.py retry REQ-101 "Backend QA" --note "The test server is up"

  python starter.py retry REQ-101 deliver
""",
    "decide": """
Examples:

  python starter.py decide REQ-101 approve --note "The risk is accepted"

  python starter.py decide REQ-101 request-changes --note "Measure first"

  python starter.py decide REQ-101 abort
""",
    "cancel": """
Example:

  python starter.py cancel REQ-101
""",
    "extend": """
Example:

  python starter.py extend REQ-101 roy --minutes 30 --reason "Large migration"
""",
}

Number = Annotated[str, typer.Argument(help="The requirement's number.")]
StageName = Annotated[str, typer.Argument(help="The stage's name, or its agent's.")]
Note = Annotated[str, typer.Option("--note", help="Why; the agents that run again are told.")]


def retry(req: Number, stage: StageName, note: Note = "") -> None:
    """Run a failed stage again, and what depends on it.

    Stage `deliver` tries to deliver again, `opening` to find a host. What failed for no fault of an
    agent's is tried again alone: an agent that has ended is not paid twice.
    """
    check_note(note)

    async def ask(handle: Handle, name: str) -> Reopened:
        request = RetryRequest(name, _who(), note)
        return await handle.execute_update(RequirementWorkflow.retry, request)

    reopened = run(steered(load_settings(), req, ask, stage=stage, may_deliver=True))
    output.write(f"{req} goes on: {', '.join(reopened.stages)}.")


def decide(
    req: Number,
    answer: Annotated[Answer, typer.Argument(help="What to do about it.")],
    note: Note = "",
) -> None:
    """Answer a blocked requirement, or give any up.

    `approve` and `request-changes` answer the critique. `abort` ends a requirement FAILED, also one
    that is not blocked.
    """
    check_note(note)

    async def ask(handle: Handle, _: str) -> Reopened:
        request = DecisionRequest(answer, _who(), note)
        return await handle.execute_update(RequirementWorkflow.decide, request)

    reopened = run(steered(load_settings(), req, ask))
    if answer is Answer.ABORT:
        output.write(f"{req} is given up: it ends FAILED.")
    else:
        output.write(f"{req} goes on: {', '.join(reopened.stages) or 'delivery'}.")


def cancel(req: Number) -> None:
    """Cancel a requirement; its agents have ended within a minute.

    What cannot be cleaned up by then is named, and its host goes on trying.
    """
    left = run(cancelled(load_settings(), req))
    output.write(f"{req} is CANCELLED.")
    if left:
        output.write(leftover_line(left))


def extend(
    req: Number,
    stage: StageName,
    minutes: Annotated[float, typer.Option("--minutes", help="How much longer it may run.")],
    reason: Annotated[str, typer.Option("--reason", help="Recorded with the extension.")],
) -> None:
    """Move the deadline of a running stage."""
    check_note(reason)

    async def ask(handle: Handle, name: str) -> str:
        request = ExtensionRequest(name, minutes, _who(), reason)
        return await handle.execute_update(RequirementWorkflow.extend, request)

    run_id = run(steered(load_settings(), req, ask, stage=stage))
    output.write(f"{run_id} may run {minutes:g} minutes longer.")


def _who() -> str:
    """The user as the system knows them; a container may run as a number without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"
