"""Checks that we made on an exact commit: verdicts, merges, builds."""

from collections.abc import Iterator
from dataclasses import asdict

from pydantic import TypeAdapter
from sqlalchemy import bindparam, exists, select
from sqlalchemy.ext.asyncio import AsyncConnection

from adapters.sdlc.deliveries import leave_line
from adapters.sdlc.holds import gate_reads, pass_gate
from adapters.sdlc.tables import EventRow, GateRow
from adapters.sdlc.transaction import RequirementWrite
from pipeline.events import EventType, event_id
from pipeline.model import (
    BuildOutcome,
    BuildRequest,
    BuildResult,
    Hold,
    MergeResult,
    Mode,
    RunResult,
    StageOutcome,
    StageRequest,
    StageState,
)
from pipeline.notice import VERDICTS, Notice, Verdict

ERROR_LINES = 50
"""Lines of a build's errors in its event (original-behaviour, section 8, scenario 4)."""

_OUTCOME = TypeAdapter(BuildOutcome)
_EVIDENCE = select(
    select(GateRow.evidence)
    .where(GateRow.gate_id == bindparam("gate_id"))
    .scalar_subquery()
    .label("evidence"),
    exists().where(EventRow.event_id == bindparam("started")).label("is_started"),
)
"""One row: the recorded outcome or null, and whether the start was told."""


async def open_build(
    connection: AsyncConnection, request: BuildRequest, subscriber: str
) -> BuildOutcome | Hold | None:
    """What is recorded of the verification, else what holds it, else None: it is to be made.

    A build that starts is told of once. Raises: UnknownRequirement.
    """
    number, names = request.ref.number, _names(request.run_id)
    evidence = (_EVIDENCE, names)
    write = await RequirementWrite.lock(connection, number, evidence, *gate_reads(number))
    (known,) = await write.read(_EVIDENCE, **names)
    if known["evidence"] is not None:
        return _OUTCOME.validate_python(known["evidence"])
    hold = await pass_gate(write, f"build {request.build}", subscriber, request.held)
    if hold:
        await leave_line(write, keeps_place=True)  # it was to deliver: others do so meanwhile
    elif not known["is_started"]:
        fields = {**_told_of(request), "commit": request.commit, "clean": request.clean}
        write.tell(request.run_id, EventType.BUILD_STARTED, fields)
    await write.flush()
    return hold


async def record_build(
    connection: AsyncConnection, request: BuildRequest, outcome: BuildOutcome, result: BuildResult
) -> None:
    """The evidence of one verification; a repeat does nothing. Raises: UnknownRequirement."""
    names = _names(request.run_id)
    write = await RequirementWrite.lock(connection, request.ref.number, (_EVIDENCE, names))
    (known,) = await write.read(_EVIDENCE, **names)
    if known["evidence"] is not None:
        return
    write.insert(
        GateRow,
        gate_id=request.run_id,
        gate=f"build {request.build}",
        stage=request.stage,
        commit=outcome.commit,
        verdict=_colour(outcome.passed),
        started_at=result.started_at,
        ended_at=result.ended_at,
        log_reference=result.log_reference,
        tree=result.tree,
        clean=outcome.clean,
        steps=[asdict(step) for step in result.steps],
        evidence=_OUTCOME.dump_python(outcome, mode="json"),
    )
    write.set(mode=mode_of(write, parallel=outcome.parallel))
    _tell(write, request, outcome)
    await write.flush()


def _names(run_id: str) -> dict[str, object]:
    """By what the evidence of a verification is found, and the event of its start."""
    return {"gate_id": run_id, "started": event_id(run_id, EventType.BUILD_STARTED)}


def add_gates(
    write: RequirementWrite,
    request: StageRequest,
    outcome: StageOutcome,
    result: RunResult,
    notice: Notice | None,
    merge: MergeResult | None,
) -> None:
    """The gates that a stage's end decided: its verdict on what it was given, and its merge."""
    for gate, commit in _decided(request, outcome, notice, merge):
        write.insert(
            GateRow,
            gate_id=f"{request.run_id}/{gate}",
            gate=gate,
            stage=request.stage.name,
            commit=commit,
            verdict=_colour(outcome.failure is None or outcome.failure.gate != gate),
            started_at=result.started_at,
            ended_at=result.ended_at,
            log_reference=result.log_reference,
        )


def mode_of(write: RequirementWrite, *, parallel: bool) -> Mode:
    """How the requirement is dispatched, after the latest word of a worker."""
    return Mode.PARALLEL if parallel and not write.row["sequential"] else Mode.SEQUENTIAL


def _decided(
    request: StageRequest,
    outcome: StageOutcome,
    notice: Notice | None,
    merge: MergeResult | None,
) -> Iterator[tuple[str, str]]:
    verdict = _verdict_gate(request)
    red = outcome.failure.gate if outcome.failure else ""
    merged = f"merge {request.stage.name}"
    # Any other failure decided nothing about the verdict: a red run leaves no green gate.
    if verdict and notice and (red in (verdict, merged) or outcome.state is StageState.COMPLETED):
        yield verdict, request.head.commit if request.head else ""
    if merge:
        yield merged, merge.commit if red == merged else merge.head.commit


def _verdict_gate(request: StageRequest) -> str:
    asked = VERDICTS.get(request.stage.member.role)
    if asked is None:
        return ""
    kind = "critique" if asked is Verdict.CRITIQUE else "verdict"
    return f"{kind} {request.stage.name}"


def _tell(write: RequirementWrite, request: BuildRequest, outcome: BuildOutcome) -> None:
    errors = outcome.failure.error.splitlines()[:ERROR_LINES] if outcome.failure else []
    write.tell(
        request.run_id,
        EventType.BUILD_PASSED if outcome.passed else EventType.BUILD_FAILED,
        {**_told_of(request), "commit": outcome.commit, "errors": errors},
    )


def _told_of(request: BuildRequest) -> dict[str, object]:
    return {"agent": request.owner, "build": request.build, "stage": request.stage}


def _colour(green: bool) -> str:
    return "green" if green else "red"
