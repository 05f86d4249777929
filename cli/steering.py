"""Commands that steer a requirement: `retry`, `decide`, `cancel`, `extend`, `block`, `unblock`."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, NoReturn, TypeVar

import typer
from temporalio.client import (
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowUpdateFailedError,
    WorkflowUpdateRPCTimeoutOrCancelledError,
)
from temporalio.exceptions import is_cancelled_exception
from temporalio.service import RPCError, RPCStatusCode

from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.store import PostgresSdlcStore
from adapters.sdlc.views import LeftoverView
from adapters.temporal.client import reaching_temporal, refusal_reason
from adapters.temporal.messages import TemporalNotifier
from adapters.temporal.workflows import check_ours
from cli import output
from cli.accounts import resumed
from cli.connections import Services, notify_paused, records, services
from cli.inputs import check_dollars, one_or_all, stage_name, who
from cli.running import OK, ExitCode, Number, StageName, load_settings, run
from cli.status import leftover_line
from pipeline.errors import DependencyUnavailable, RefusedInput
from pipeline.infrastructure import PREFIX
from pipeline.model import (
    OPENING,
    Answer,
    DecisionRequest,
    DeliveryReport,
    ExtensionRequest,
    Reopened,
    RetryRequest,
)
from pipeline.numbers import check_number
from pipeline.pauses import ALL
from pipeline.plan_rules import DELIVER
from pipeline.steering import check_note
from settings import Settings
from workflows.ending import report_of
from workflows.requirement import RequirementWorkflow

T = TypeVar("T")
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

  python starter.py decide REQ-101 raise-budget --usd 20

  python starter.py decide REQ-101 abort
""",
    "cancel": """
Examples:

  python starter.py cancel REQ-101

  python starter.py cancel --all
""",
    "extend": """
Example:

  python starter.py extend REQ-101 roy --minutes 30 --reason "Large migration"
""",
    "block": """
Example:

  python starter.py block REQ-102 --by REQ-101
""",
    "unblock": """
Example:

  python starter.py unblock REQ-102 --by REQ-101
""",
}

Note = Annotated[str, typer.Option("--note", help="Why; agents that run again are told.")]
By = Annotated[str, typer.Option("--by", help="The number that it waits for.")]

ANSWER_SECONDS = 30.0
"""A worker answers in milliseconds; recording may wait for one database outage to end."""
CANCEL_SECONDS = 60.0
"""Agents are terminated, killed after a grace period, and their clones removed by then."""
_ABORT_SECONDS = 10.0
"""So long the command waits for the end; the clean-up may take a minute."""
_NO_WORKER = "Start one with: python worker.py (or python starter.py up)"


def retry(req: Number, stage: StageName, note: Note = "") -> None:
    """Run a failed stage again, and what depends on it.

    Stage `deliver` tries the delivery again, `opening` the search for a host. A step that failed
    through no fault of an agent is repeated alone: no agent that has ended runs, or is paid, again.
    A stage that its program's account holds ends the wait of that account.
    """
    check_note(note)
    settings = load_settings()
    if account := run(_held_by(settings, req, stage)):
        output.write(run(resumed(settings, account, at_once=True)))
        return

    async def ask(handle: Handle, name: str) -> Reopened:
        request = RetryRequest(name, who(), note)
        return await handle.execute_update(RequirementWorkflow.retry, request)

    reopened = run(_steered(settings, req, ask, stage=stage, may_deliver=True))
    output.write(f"{req} continues: {', '.join(reopened.stages)}.")


class Decision(StrEnum):
    """What may be decided."""

    APPROVE = Answer.APPROVE
    REQUEST_CHANGES = Answer.REQUEST_CHANGES
    ABORT = Answer.ABORT
    RAISE_BUDGET = "raise-budget"


def decide(
    req: Number,
    decision: Annotated[Decision, typer.Argument(help="What to do about it.")],
    note: Note = "",
    usd: Annotated[
        float | None, typer.Option("--usd", help="raise-budget: the new limit in dollars.")
    ] = None,
    day: Annotated[
        bool, typer.Option("--day", help="raise-budget: today's, for all requirements.")
    ] = False,
) -> None:
    """Answer a blocked requirement, raise a budget, or give up.

    `approve` and `request-changes` answer the critique. `raise-budget` lets continue what a budget
    holds: that of the requirement, or with --day that of today (UTC). `abort` ends a requirement
    FAILED, even if it is not blocked.
    """
    check_note(note)
    if decision is Decision.RAISE_BUDGET:
        if usd is None:
            raise RefusedInput("Name the new limit in dollars: --usd 20")
        check_dollars("--usd", usd)
        output.write(run(_raised(load_settings(), req, usd, of_day=day)))
        return
    if usd is not None or day:
        raise RefusedInput("--usd and --day belong to raise-budget.")
    answer = Answer(decision)

    async def ask(handle: Handle, _: str) -> Reopened:
        request = DecisionRequest(answer, who(), note)
        reopened = await handle.execute_update(RequirementWorkflow.decide, request)
        if answer is Answer.ABORT:  # what is asked next should see the end, not the old question
            with suppress(WorkflowFailureError, TimeoutError):
                await asyncio.wait_for(handle.result(), _ABORT_SECONDS)
        return reopened

    reopened = run(_steered(load_settings(), req, ask))
    if answer is Answer.ABORT:
        output.write(f"{req} is given up: it ends FAILED.")
    else:
        output.write(f"{req} continues: {', '.join(reopened.stages) or 'delivery'}.")


def cancel(
    req: Annotated[str | None, typer.Argument(help="The requirement's number.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that are under way; P0s of Sasha end by themselves.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask first.")] = False,
) -> None:
    """Cancel a requirement, or all; agents end within a minute.

    What cannot be cleaned up by then is named, and its host keeps trying.
    """
    if one_or_all(req, everything=everything) == ALL:
        raise typer.Exit(run(_cancelled_all(load_settings(), is_sure=yes)))
    _tell_cancelled(str(req), run(_cancelled_one(load_settings(), str(req))))


def _tell_cancelled(number: str, left: LeftoverView | None) -> None:
    output.write(f"{number} is CANCELLED.")
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
        request = ExtensionRequest(name, minutes, who(), reason)
        return await handle.execute_update(RequirementWorkflow.extend, request)

    run_id = run(_steered(load_settings(), req, ask, stage=stage))
    output.write(f"{run_id} may run {minutes:g} minutes longer.")


def block(req: Number, by: By) -> None:
    """Make a requirement wait until another one is delivered.

    It waits at its next boundary: its opening, a stage, a build or the delivery.
    """
    run(_change_blocker(req, by, PostgresSdlcStore.add_blocker))
    output.write(f"{req} waits for {by}.")


def unblock(req: Number, by: By) -> None:
    """Let a requirement continue without waiting for that one."""
    run(_change_blocker(req, by, PostgresSdlcStore.remove_blocker))
    output.write(f"{req} no longer waits for {by}.")


async def _raised(settings: Settings, number: str, usd: float, *, of_day: bool) -> str:
    """Raise the budget; what to tell of it. Raises: RefusedInput, UnknownRequirement."""
    check_number(number)
    async with services(settings) as connected:
        try:
            budget = await connected.store.raise_budget(number, usd, who(), of_day=of_day)
        finally:  # even if refused: an earlier call may have been interrupted before this
            await notify_paused(connected)
    return f"The {budget.name} is raised: {budget.used} are spent."


async def _held_by(settings: Settings, number: str, stage: str) -> str:
    """The account that holds the stage; empty if none does.

    Raises: UnknownRequirement; RefusedInput if a budget holds it.
    """
    if stage in (DELIVER, OPENING):
        return ""
    async with records(settings) as reader:
        view = await reader.requirement(number)
    name = stage_name(view, stage)
    here = [hold for hold in view.holds if hold.boundary == name]
    if held := next((hold for hold in here if hold.budget), None):
        raise RefusedInput(f"{number} {name} is held: {held.reason}")
    return next((hold.account for hold in here if hold.account), "")


async def _steered(
    settings: Settings,
    number: str,
    ask: Callable[[Handle, str], Awaitable[T]],
    *,
    stage: str = "",
    may_deliver: bool = False,
) -> T:
    """The answer of a requirement's workflow to `ask`.

    With `may_deliver`, the stage may also be the delivery or the opening.

    Raises: UnknownRequirement for number or stage, RefusedInput with the workflow's reason,
        NumberElsewhere if the workflow belongs to another installation, DependencyUnavailable if
        no worker answers.
    """
    async with services(settings) as connected:
        is_stage = bool(stage) and not (may_deliver and stage in (DELIVER, OPENING))
        name = stage_name(await connected.reader.requirement(number), stage) if is_stage else stage
        await check_ours(connected.temporal, connected.installation.queues, number)
        handle = connected.temporal.get_workflow_handle_for(RequirementWorkflow.run, number)
        try:
            with reaching_temporal(connected.temporal):
                return await asyncio.wait_for(ask(handle, name), ANSWER_SECONDS)
        except WorkflowUpdateFailedError as refusal:
            reason = refusal_reason(refusal)
            named = "" if reason.startswith(number) else f"{number}: "
            raise RefusedInput(f"{named}{reason}") from refusal
        except RPCError as error:
            await _explain(connected.reader, number, error)
        except (TimeoutError, WorkflowUpdateRPCTimeoutOrCancelledError) as error:
            raise _unanswered(connected, number) from error


async def _cancelled_one(settings: Settings, number: str) -> LeftoverView | None:
    async with services(settings) as connected:
        return await _cancelled(connected, number)


async def _cancelled_all(settings: Settings, *, is_sure: bool) -> ExitCode:
    """Cancel all that are under way, at once, and tell of each; some may end otherwise meanwhile.

    Raises: RefusedInput if the user is not sure; DependencyUnavailable.
    """
    async with services(settings) as connected:
        found = await connected.reader.under_way()
        numbers = [number for number in found if not number.startswith(PREFIX)]
        if not numbers:
            output.write("Nothing is under way.")
            return OK
        if not (is_sure or _is_sure(numbers)):
            raise RefusedInput("Nothing was cancelled.")

        async def one(number: str) -> bool:
            try:
                _tell_cancelled(number, await _cancelled(connected, number))
            except RefusedInput as refusal:
                output.complain(str(refusal))
                return False
            return True

        done = await asyncio.gather(*map(one, numbers), return_exceptions=True)
    for outcome in done:
        if isinstance(outcome, BaseException):
            raise outcome
    return OK if all(done) else ExitCode.NOT_DELIVERED


def _is_sure(numbers: Sequence[str]) -> bool:
    """Raises: RefusedInput where nobody can be asked."""
    question = f"Cancel {len(numbers)}: {', '.join(numbers)}?"
    if not sys.stdin.isatty():
        raise RefusedInput(f"{question} Then say so: cancel --all --yes")
    return typer.confirm(question, err=True)


async def _cancelled(connected: Services, number: str) -> LeftoverView | None:
    """Cancel a requirement and wait for its end; returns what could not be cleaned up.

    Raises: as `_steered`.
    """
    # Temporal also accepts the cancellation of a workflow that has ended
    if (state := (await connected.reader.requirement(number)).state).is_final:
        raise RefusedInput(f"{number} has ended: it is {state}.")
    await check_ours(connected.temporal, connected.installation.queues, number)
    handle = connected.temporal.get_workflow_handle_for(RequirementWorkflow.run, number)
    try:
        with reaching_temporal(connected.temporal):
            await handle.cancel()
            report = await asyncio.wait_for(handle.result(), CANCEL_SECONDS)
    except WorkflowFailureError as failure:
        if is_cancelled_exception(failure.cause):
            return (await connected.reader.requirement(number)).leftover
        converter = connected.temporal.data_converter.payload_converter
        if failed := report_of(failure.cause, converter):
            raise RefusedInput(f"{number} was already ending: it is {failed.state}.") from failure
        raise RefusedInput(
            f"{number} failed before it could be cancelled: {failure.cause}"
        ) from failure
    except RPCError as error:
        await _explain(connected.reader, number, error)
    except TimeoutError as error:
        raise _unanswered(connected, number) from error
    raise RefusedInput(f"{number} was already ending: it is {report.state}.")


async def _explain(reader: SdlcReader, number: str, error: RPCError) -> NoReturn:
    """Raise what Temporal's error means for this requirement."""
    if error.status is RPCStatusCode.FAILED_PRECONDITION:  # somebody paused the workflow
        raise RefusedInput(f"{number}: {error.message}") from error
    if error.status is not RPCStatusCode.NOT_FOUND:
        raise error
    state = (await reader.requirement(number)).state  # raises UnknownRequirement
    if state.is_final:
        raise RefusedInput(f"{number} has ended: it is {state}.") from error
    raise RefusedInput(
        f"{number} is {state} but was never started: complete the same `start` first."
    ) from error


def _unanswered(connected: Services, number: str) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"{number} was told, but its worker", f"queue {connected.installation.queues.central}",
        f"{_NO_WORKER}; then look with: python starter.py status {number}",
    )  # fmt: skip


async def _change_blocker(
    number: str, by: str, write: Callable[[PostgresSdlcStore, str, str], Awaitable[None]]
) -> None:
    check_number(number)
    check_number(by)
    async with services(load_settings()) as connected:
        try:
            await write(connected.store, number, by)
        finally:  # even if refused: an earlier call may have been interrupted before this
            await notify_paused(connected)
            await TemporalNotifier(connected.temporal).pre_empt(await connected.store.to_pre_empt())
