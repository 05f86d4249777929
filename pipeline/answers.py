"""From how a run ended to what it means: an accepted notice, or a failure with its kind."""

from dataclasses import dataclass, replace

from pipeline.endings import MEANINGS, denied, explained
from pipeline.errors import NoticeRefused
from pipeline.failures import cut, last_lines, signature
from pipeline.model import (
    Ending,
    Failure,
    FailureKind,
    MergeResult,
    ProgramReport,
    RunEnd,
    RunResult,
    StageRequest,
    StageState,
)
from pipeline.notice import VERDICTS, Notice, NoticeStatus, accept_notice, parse_notice
from pipeline.team import Agent, Role
from pipeline.verdicts import judge, verdict_of


@dataclass(frozen=True)
class Reading:
    """What a run's end means for its stage."""

    state: StageState
    notice: Notice | None = None
    verdict: str = ""
    failure: Failure | None = None


def read_run(request: StageRequest, result: RunResult) -> Reading:
    """Judge a run that has ended.

    A run that did not end by itself has no answer, whatever it printed. One that could not be
    started (no such program) is refused at once: trying again would give the same. A non-zero
    exit beside a COMPLETE notice is a contradiction and never green, but it is an answer: it is
    not paid again.
    """
    if result.report and _is_told(result, result.report):
        return _read_report(request, result, result.report)
    if result.end is not RunEnd.EXITED:
        return _unanswered(request, result)
    try:
        notice = parse_notice(result.output, agent=request.stage.member, number=request.ref.number)
    except NoticeRefused as refusal:
        return _failed(request, result, *_refused(result, str(refusal)))
    if result.exit_code != 0 and notice.status is NoticeStatus.COMPLETE:
        error = f"The agent said COMPLETE but exited with {result.exit_code}."
        return _failed(request, result, FailureKind.FAILED, _quoting(error, result), notice)
    return _judged(request, result, notice)


def _judged(request: StageRequest, result: RunResult, notice: Notice) -> Reading:
    judgement = judge(request.stage, notice)
    failure = judgement.failure and _located(judgement.failure, result)
    return Reading(judgement.state, notice, judgement.verdict, failure)


def _is_told(result: RunResult, report: ProgramReport) -> bool:
    """Whether the program's report says how the run ended.

    A program that had given its answer and did not end afterwards has answered all the same.
    """
    if result.end is RunEnd.EXITED:
        return True
    is_late = result.end in (RunEnd.TIMED_OUT, RunEnd.LOST) and not result.pre_empted
    return is_late and report.ending is Ending.SUCCESS


def _read_report(request: StageRequest, result: RunResult, report: ProgramReport) -> Reading:
    """Judge what the program tells: its exit code alone means nothing."""
    meaning = MEANINGS[report.ending]
    if report.ending is not Ending.SUCCESS:
        error = explained(report)
        if meaning.kind is FailureKind.CRASH:
            error = _quoting(f"{error}\nIt exited with {result.exit_code}.", result)
        return _failed(request, result, meaning.kind, error)
    try:
        notice = _notice(report, request.stage.member, request.ref.number)
    except NoticeRefused as refusal:
        twice = "It was asked for once more, without success." if report.asked_again else ""
        remedy = MEANINGS[Ending.DENIED].remedy if report.denials else ""
        error = "\n".join(filter(None, (str(refusal), twice, denied(report), remedy)))
        return _failed(request, result, meaning.kind, error)
    return _judged(request, result, notice)


def why_ask_again(report: ProgramReport, agent: Agent, number: str) -> str:
    """What is wrong with the answer of a program that ended well; empty if nothing is.

    It is asked once more in its session, which costs little: the work itself may be in order.
    """
    if report.ending not in (Ending.SUCCESS, Ending.DENIED) or not report.session:
        return ""
    try:
        notice = _notice(report, agent, number)
    except NoticeRefused as refusal:
        return str(refusal)
    expected = VERDICTS.get(agent.role)
    if notice.status is NoticeStatus.COMPLETE and expected and not verdict_of(notice):
        return f"The answer lacks its {expected}."
    return ""


def _notice(report: ProgramReport, agent: Agent, number: str) -> Notice:
    if report.answer is not None:
        return accept_notice(report.answer, agent=agent, number=number)
    return parse_notice(report.text, agent=agent, number=number)


def unchanged(
    request: StageRequest, reading: Reading, merge: MergeResult, report: ProgramReport | None = None
) -> Failure | None:
    """The failure of an implementer who changed nothing and does not say why; None for no failure.

    It goes for a fix as well: it cannot have repaired what it left as it was. It is an answer,
    which is not paid again by itself, but to its owner it is as red as any.
    """
    is_implementer = request.stage.member.role == Role.IMPLEMENTATION
    notice = reading.notice
    if merge.changed or merge.conflicts or merge.refusal or not is_implementer:
        return None
    if notice is None or notice.no_changes_needed:
        return None
    said = notice.raw.get("no_changes_needed")
    error = (
        f"{request.stage.agent} says COMPLETE, but has changed no file"
        + (f", and {said!r:.80} is no reason for that" if said else "")
        + '. If nothing has to be changed, the notice must say why: "no_changes_needed": "…".'
        + "".join(f"\n{remark}" for remark in merge.remarks)
        + (f"\n{denied(report)}" if report and report.denials else "")
    )
    return Failure(
        stage=request.stage.name,
        kind=FailureKind.FAILED,
        gate=f"run {request.stage.name}",
        owners=(request.stage.agent,),
        error=error,
        commit=merge.commit,
    )


def _unanswered(request: StageRequest, result: RunResult) -> Reading:
    if result.end is RunEnd.TIMED_OUT:
        error = f"No notice by deadline and grace. {result.reason}"
        return _failed(request, result, FailureKind.TIMEOUT, error.strip())
    error = result.reason or f"The run ended from outside: {result.end}."
    if result.pre_empted:
        error = f"It died while it was suspended, and is run again: {error}"
        return _failed(request, result, FailureKind.PRE_EMPTED, error)
    if result.end is RunEnd.HOST_LOST:
        return _failed(request, result, FailureKind.HOST_LOST, error)
    if result.end is RunEnd.NOT_STARTED:
        return _failed(request, result, FailureKind.REFUSED, error)
    if result.end is RunEnd.GONE:
        return _failed(request, result, FailureKind.FAILED, error)
    return _failed(request, result, FailureKind.INFRASTRUCTURE, error)


def _refused(result: RunResult, refusal: str) -> tuple[FailureKind, str]:
    """A refused notice of a program that failed is a crash, otherwise the notice is at fault.

    Where its output was too long to be searched as a whole, nobody knows whether there is one.
    """
    if result.unread:
        megabytes = result.unread / 1_000_000
        return FailureKind.UNREAD, (
            f"Standard output is too long: its first {megabytes:.0f} MB were not searched for the "
            f"notice, and the rest holds none. {refusal} The agent is not started again by itself: "
            f"look into {result.log_reference}, then retry the stage."
        )
    if result.exit_code == 0:
        return FailureKind.NOTICE, refusal
    error = f"The agent exited with {result.exit_code}. {result.reason}".strip()
    return FailureKind.CRASH, _quoting(f"{error} {refusal}", result)


def _quoting(error: str, result: RunResult) -> str:
    """The error, and below it the last lines of what the agent printed.

    Of a program with a report these are its own words instead of the lines of its stream.
    """
    printed = result.report.text if result.report else result.output
    told = (("errors", result.error_output), ("output", printed))
    return "\n".join(
        (error, *(f"Its last {name}:\n{said}" for name, text in told if (said := last_lines(text))))
    )


def _failed(
    request: StageRequest,
    result: RunResult,
    kind: FailureKind,
    error: str,
    notice: Notice | None = None,
) -> Reading:
    failure = Failure(
        stage=request.stage.name,
        kind=kind,
        gate=f"run {request.stage.name}",
        owners=kind.owners(request.stage.agent),
        error=cut(error),
        log_reference=result.log_reference,
        commit=request.head.commit if request.head else "",
        signature=_said(kind, error, result),
    )
    return Reading(StageState.FAILED, notice, "", failure)


def _said(kind: FailureKind, error: str, result: RunResult) -> str:
    """What the run itself said: of a crash its standard error, of a deadline nothing."""
    if kind is FailureKind.NOTICE:
        return signature(error)
    if result.report and result.report.detail:
        return signature(result.report.detail)
    return "" if kind is FailureKind.TIMEOUT else signature(result.error_output)


def _located(failure: Failure, result: RunResult) -> Failure:
    return replace(failure, error=cut(failure.error), log_reference=result.log_reference)
