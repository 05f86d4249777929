"""A round of failures: the report, the question to a human, the answer, what fixes achieved."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict

from sqlalchemy import Select, Update, bindparam, or_, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.context import PLAN
from adapters.sdlc.holds import end_boundary_holds
from adapters.sdlc.run_ends import complete_group, lose
from adapters.sdlc.tables import (
    BlockerRow,
    EscalationRow,
    FailureRow,
    FixRow,
    NoteRow,
    RequirementRow,
    StageRow,
)
from adapters.sdlc.transaction import RequirementWrite, StageRecord
from pipeline.events import EventType, escalation_event, timestamp
from pipeline.model import (
    HUMAN,
    ORCHESTRATOR,
    REPAIR,
    Escalation,
    Failure,
    FailureCollection,
    FailureReport,
    Reminder,
    Reopening,
    RequirementRef,
    RequirementState,
    RoundResults,
    StageOutcome,
    StageState,
)
from pipeline.plan_rules import DELIVER
from pipeline.team import Role

_NOT_STARTED = (StageState.WAITING, StageState.HELD)
_PLAN = select(RequirementRow.plan).where(RequirementRow.number == bindparam("number"))


async def block(
    connection: AsyncConnection, collection: FailureCollection, report: FailureReport
) -> None:
    """Record a round's failures and their assignees; a repeat does nothing.

    Raises: IllegalTransition, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, collection.ref.number)
    if write.row["round"] >= collection.round:
        return
    await write.load_stages()
    _record_failures(write, report)
    for stage, reason in _not_started(write, collection):
        _block_stage(write, stage, collection, reason)
    reason = report.text.partition("\n")[0]
    if write.state is RequirementState.ACCEPTED:  # its opening has failed
        write.move(RequirementState.HELD, why=reason)
    if write.state is not RequirementState.BLOCKED:  # a fix may have left it red
        write.move(RequirementState.BLOCKED, why=reason)
        write.update_all(end_boundary_holds(write))
    write.set(round=collection.round, reason=reason, waiting_for=collection.waiting_for)
    await _tell_deployed(write, collection, reason)
    _tell(write, collection, report)
    if HUMAN in collection.waiting_for:
        _await_human(write, collection, reason)
    if collection.escalation:
        write.update_all(close_escalations(write, SUPERSEDED, ORCHESTRATOR, ""))
        escalate(write, collection.ref, collection.round, collection.escalation)
    await write.flush()


def _await_human(write: RequirementWrite, collection: FailureCollection, reason: str) -> None:
    write.insert(
        BlockerRow,
        round=collection.round,
        blocked_by=HUMAN,
        reason=reason,
        created_at=write.at,
    )


def _record_failures(write: RequirementWrite, report: FailureReport) -> None:
    """The report holds every failure that is still open, so it replaces the earlier ones."""
    write.update_all(resolve_failures(write))
    for seq, failure in enumerate(report.failures, 1):
        record_failure(write, report.round, seq, failure)
    for failure in report.failures:
        if failure.stage in write.stages:
            lose(write, write.stage(failure.stage), failure.error)


def record_failure(write: RequirementWrite, round_: int, seq: int, failure: Failure) -> None:
    """The row of a failure; `seq` counts within the round."""
    write.insert(
        FailureRow,
        round=round_,
        seq=seq,
        stage=failure.stage,
        kind=failure.kind,
        gate=failure.gate,
        owners=list(failure.owners),
        severity=int(failure.severity),
        error=failure.error,
        log_reference=failure.log_reference,
        commit=failure.commit,
        created_at=write.at,
    )


def _not_started(
    write: RequirementWrite, collection: FailureCollection
) -> Iterator[tuple[StageRecord, str]]:
    """Stages that wait for what failed, and those whose failure came before their start."""
    reasons = {blocked.stage.name: blocked.reason for blocked in collection.blocked}
    reasons |= {failure.stage: failure.error for failure in collection.failures}
    for stage in write.stages.values():
        if stage.state in _NOT_STARTED and stage.stage in reasons:
            yield stage, reasons[stage.stage]


def _block_stage(
    write: RequirementWrite, stage: StageRecord, collection: FailureCollection, reason: str
) -> None:
    write.move_stage(stage, StageState.BLOCKED, why=reason)
    red = [need for need in stage.needs if not write.stage(need).state.is_done]
    write.tell(
        f"{collection.ref.key}/{stage.stage}",  # not a run: a run tells of its own block
        EventType.STAGE_BLOCKED,
        {
            "stage": stage.stage,
            "agent": stage.agent,
            "reason": reason,
            "blockers": red,
        },
        occurrence=collection.round,
    )


def _tell(write: RequirementWrite, collection: FailureCollection, report: FailureReport) -> None:
    write.tell(
        collection.ref.key,
        EventType.WORKFLOW_BLOCKED,
        {
            "round": report.round,
            "severity": report.severity.name,
            "failures": [_told(failure) for failure in report.failures],
        },
        occurrence=report.round,
    )


async def _tell_deployed(
    write: RequirementWrite, collection: FailureCollection, reason: str
) -> None:
    """Say that something is deployed which could not be delivered.

    Where every stage is done, what is red are the checks of the delivery.
    """
    stages = write.stages.values()
    if not stages or not all(stage.state.is_done for stage in stages):
        return
    (row,) = await write.read(_PLAN, number=write.number)
    plan = PLAN.validate_python(row["plan"]["pipeline"])
    deploying = {stage.name for stage in plan.stages if stage.member.role == Role.DEVOPS}
    deployed = [
        stage.stage
        for stage in stages
        if stage.stage in deploying and stage.state is StageState.COMPLETED
    ]
    if deployed:
        write.tell(
            collection.ref.key,
            EventType.DEPLOYED_UNDELIVERED,
            {"round": collection.round, "stages": deployed, "reason": reason},
            occurrence=collection.round,
        )


def _told(failure: Failure) -> dict[str, object]:
    return {
        "stage": failure.stage,
        "gate": failure.gate,
        "kind": str(failure.kind),
        "owners": list(failure.owners),
        "error": failure.error.partition("\n")[0],
        "log": failure.log_reference,
    }


# --- a human is asked -----------------------------------------------------------------------------

SUPERSEDED = "superseded"
"""The answer to a question that a later one contains."""


def escalate(
    write: RequirementWrite, ref: RequirementRef, round_: int, escalation: Escalation
) -> None:
    """Record a question to a human and publish it; the caller closes the one before it."""
    asks = [asdict(ask) for ask in escalation.asks]
    write.insert(
        EscalationRow,
        escalation=escalation.occurrence,
        round=round_,
        asks=asks,
        answers=list(escalation.answers),
        created_at=write.at,
    )
    fields = _fields(write, round_, escalation.occurrence, asks, escalation.answers)
    for kind in (EventType.WORKFLOW_ESCALATED, EventType.ESCALATION):
        write.emit(escalation_event(kind, ref.key, write.number, write.at, fields))


async def remind(connection: AsyncConnection, reminder: Reminder) -> None:
    """Say an open question again; a repeat, or one that was answered meanwhile, says nothing."""
    write = await RequirementWrite.lock(connection, reminder.ref.number)
    key = (EscalationRow.number == write.number) & (EscalationRow.escalation == reminder.escalation)
    row = (await connection.execute(select(EscalationRow).where(key))).mappings().one_or_none()
    if row is None or row["answered_at"] or row["reminders"] >= reminder.occurrence:
        return
    write.update(
        EscalationRow,
        {"number": write.number, "escalation": reminder.escalation},
        reminders=reminder.occurrence,
    )
    fields = {
        **_fields(write, row["round"], reminder.escalation, row["asks"], row["answers"]),
        "reminder": reminder.occurrence,
        "waitingSince": timestamp(row["created_at"]),
    }
    kind = EventType.ESCALATION_REMINDER
    write.emit(escalation_event(kind, reminder.ref.key, write.number, write.at, fields))
    await write.flush()


def _fields(
    write: RequirementWrite,
    round_: int,
    escalation: int,
    asks: Sequence[Mapping[str, object]],
    answers: Sequence[str],
) -> Mapping[str, object]:
    """What both say: the question and its reminder."""
    return {
        "title": write.row["title"],
        "priority": write.row["priority"],
        "round": round_,
        "escalation": escalation,
        "asks": list(asks),
        "answers": list(answers),
    }


# --- answers, numbered so that a repeat is recognised ---------------------------------------------


async def is_recorded(write: RequirementWrite, answer: int) -> bool:
    """Whether the answer of that number has been written before."""
    key = (NoteRow.number == write.number) & (NoteRow.answer == answer)
    return (await write.connection.execute(select(NoteRow.answer).where(key))).scalar() is not None


def note(
    write: RequirementWrite, answer: int, kind: str, stages: tuple[str, ...], who: str, why: str
) -> None:
    """Write the answer down, and the stages that it sets going again."""
    write.insert(
        NoteRow,
        answer=answer,
        round=write.row["round"],
        kind=kind,
        stages=list(stages),
        who=who,
        why=why,
        at=write.at,
    )


def close_escalations(write: RequirementWrite, answer: str, who: str, why: str) -> Update:
    """Open questions to a human are answered, or nobody asks them any more."""
    mine = (EscalationRow.number == write.number) & EscalationRow.answered_at.is_(None)
    return (
        update(EscalationRow)
        .where(mine)
        .values(answered_at=write.at, answer=answer, who=who, note=why)
    )


# --- an answer lets the requirement continue --------------------------------------------------


async def reopen(connection: AsyncConnection, reopening: Reopening) -> None:
    """Record an answer and what it set going again; a repeat does nothing.

    Raises: IllegalTransition, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, reopening.ref.number)
    if await is_recorded(write, reopening.occurrence):
        return
    await write.load_stages()
    set_going = (*reopening.stages, *reopening.approved)
    note(write, reopening.occurrence, reopening.answer, set_going, reopening.who, reopening.why)
    write.update_all(
        _resolve_answered(write, reopening),
        close_escalations(write, reopening.answer, reopening.who, reopening.why),
    )
    for name in reopening.stages:
        reopen_stage(write, write.stage(name), reopening.who, reopening.why)
    for name in reopening.approved:
        await _approve_stage(write, write.stage(name), reopening)
    # An answer may come while siblings of what failed still run: then nothing was suspended.
    if write.state is RequirementState.BLOCKED:
        resume(write, reopening.ref, reopening.occurrence, set_going, reopening.who, reopening.why)
        write.update_all(_resolve_answered_blockers(write))
    if write.state is not RequirementState.HELD:  # then it waits for who holds it
        write.set(waiting_for=reopening.waiting_for)
    if reopening.escalation:
        escalate(write, reopening.ref, write.row["round"], reopening.escalation)
    await write.flush()


def reopen_stage(write: RequirementWrite, stage: StageRecord, who: str, why: str) -> None:
    """Set a stage back to waiting, and give up a run of it that nobody has closed."""
    lose(write, stage, f"Lost; reopened by {who}.")
    # Blocked in the workflow alone: its round has not been reported yet.
    if stage.state is not StageState.WAITING:
        write.move_stage(stage, StageState.WAITING, who=who, why=why)


async def complete_stage(
    write: RequirementWrite, stage: StageRecord, who: str, why: str, fields: Mapping[str, object]
) -> None:
    """Complete a stage in the name of its last run, which did not by itself."""
    write.move_stage(stage, StageState.COMPLETED, who=who, why=why)
    told = {"stage": stage.stage, "agent": stage.agent, "attempt": stage.attempt, **fields}
    write.tell(str(stage.run_id), EventType.STAGE_COMPLETED, told)
    await complete_group(write, stage)


def resume(
    write: RequirementWrite,
    ref: RequirementRef,
    occurrence: int,
    stages: tuple[str, ...],
    who: str,
    why: str,
) -> None:
    """BLOCKED -> RUNNING and `workflow.resumed`; `stages` are those that wait again."""
    if write.row["workflow_run"] is None:  # its opening has failed: no host has it
        write.move(RequirementState.HELD, who=who, why=why)
        write.move(RequirementState.ACCEPTED, who=who, why=why)
    else:
        write.move(RequirementState.RUNNING, who=who, why=why)
    write.set(reason="")
    fields = {"round": write.row["round"], "stages": list(stages), "who": who, "why": why}
    write.tell(ref.key, EventType.WORKFLOW_RESUMED, fields, occurrence=occurrence)


def resolve_failures(write: RequirementWrite) -> Update:
    """Every open failure of the requirement counts as resolved."""
    mine = (FailureRow.number == write.number) & FailureRow.resolved_at.is_(None)
    return update(FailureRow).where(mine).values(resolved_at=write.at)


def _resolve_answered(write: RequirementWrite, reopening: Reopening) -> Update:
    reopened = (*reopening.stages, *reopening.approved, *reopening.checks)
    if not reopened:  # the delivery, which makes every check again
        return resolve_failures(write)
    return resolve_failures(write).where(FailureRow.stage.in_((*reopened, DELIVER)))


def resolve_blockers(write: RequirementWrite) -> Update:
    """Nothing stands in the requirement's way any more."""
    mine = (BlockerRow.number == write.number) & BlockerRow.resolved_at.is_(None)
    return update(BlockerRow).where(mine).values(resolved_at=write.at)


def _resolve_answered_blockers(write: RequirementWrite) -> Update:
    """The question to the human, and fixes that came to nothing; others may be under way."""
    ended = select(RequirementRow.number).where(
        RequirementRow.parent.is_not(None), RequirementRow.ended_at.is_not(None)
    )
    answered = (BlockerRow.blocked_by == HUMAN) | BlockerRow.blocked_by.in_(ended)
    return resolve_blockers(write).where(answered)


async def _approve_stage(write: RequirementWrite, stage: StageRecord, reopening: Reopening) -> None:
    fields = {"summary": reopening.why, "commit": "", "approvedBy": reopening.who}
    await complete_stage(write, stage, reopening.who, reopening.why, fields)


# --- what the fixes achieved: green gates resolve their failures ----------------------------------


async def apply_results(connection: AsyncConnection, results: RoundResults) -> None:
    """What a round of fixes achieved: only a green gate resolves its blocker.

    A repeat does nothing. Raises: IllegalTransition, UnknownRequirement.
    """
    write = await RequirementWrite.lock(connection, results.ref.number)
    if await is_recorded(write, results.occurrence):
        return
    await write.load_stages()
    reopened = tuple(stage for stage, _ in results.reopened)
    note(write, results.occurrence, REPAIR, reopened, ORCHESTRATOR, "")
    if results.green:
        write.update_all(_resolve_failures(write, results), _resolve_blockers(write, results))
    for fix, outcome in results.replaced:
        await _replace_stage(write, write.stage(outcome.stage), fix, outcome)
    for name, reason in results.reopened:
        reopen_stage(write, write.stage(name), ORCHESTRATOR, reason)
    _proceed(write, results, reopened)
    await write.flush()


def _resolve_failures(write: RequirementWrite, results: RoundResults) -> Update:
    merges = _fixes_of(write, results).with_only_columns("merge " + FixRow.number)
    is_green = or_(
        tuple_(FailureRow.stage, FailureRow.gate).in_(results.green),
        FailureRow.gate.in_(merges),  # a conflict that a fix of the fix has resolved
    )
    return resolve_failures(write).where(is_green)


def _fixes_of(write: RequirementWrite, results: RoundResults) -> Select[str]:
    """The fixes, and fixes of fixes, that repaired what is green."""
    gates = [gate for _, gate in results.green]
    return select(FixRow.number).where(FixRow.root == write.number, FixRow.gate.in_(gates))


def _resolve_blockers(write: RequirementWrite, results: RoundResults) -> Update:
    return resolve_blockers(write).where(BlockerRow.blocked_by.in_(_fixes_of(write, results)))


async def _replace_stage(
    write: RequirementWrite, stage: StageRecord, fix: str, outcome: StageOutcome
) -> None:
    """The fix's run stands for the stage's: those downstream are told its notice."""
    query = select(StageRow.run_id).where(StageRow.number == fix)
    run_id = (await write.connection.execute(query)).scalar_one()
    # The fix's merge has a gate of its own, which names the commit.
    fields = {"summary": outcome.summary, "commit": "", "repairedBy": fix}
    await complete_stage(write, stage, ORCHESTRATOR, f"Repaired by {fix}.", fields)
    # Only now: its group is completed in the name of its own run, for the fix has told of its own.
    stage.set(run_id=run_id)


def _proceed(write: RequirementWrite, results: RoundResults, reopened: tuple[str, ...]) -> None:
    if write.state is not RequirementState.HELD:  # then it waits for who holds it
        write.set(waiting_for=results.waiting_for)
    if write.state is RequirementState.BLOCKED and not results.waiting_for:
        why = f"Green again: {', '.join(gate for _, gate in results.green)}."
        resume(write, results.ref, results.occurrence, reopened, ORCHESTRATOR, why)
