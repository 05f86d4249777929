"""What each ending of a program means: whose matter it is, and whether its session is resumed.

One table. Whoever reads it decides by the blame: what waits for an account, what a human must see
to, and what was the agent's own failure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from pipeline.model import Ending, FailureKind, ProgramReport, RunEnd, RunResult

_DETAIL_LENGTH = 600
_DENIALS_SHOWN = 5


class Blame(StrEnum):
    """Whose matter an ending is."""

    NOBODY = "nobody"
    AGENT = "agent"
    ACCOUNT_WAITS = "account waits"
    """Nobody can work with this account now; it will be over by itself."""
    ACCOUNT_ASKS = "account asks"
    """Nobody can work with this account until a human has seen to it."""
    HOST = "host"
    """The host or the agents file has to be changed."""


@dataclass(frozen=True)
class Meaning:
    """An ending's blame, the kind of failure it is, what happened, and what to do about it."""

    blame: Blame
    kind: FailureKind
    words: str
    remedy: str = ""


_GOES_ON = "Then retry the stage."
_RESUMES = "Then resume the account: python starter.py accounts"

MEANINGS: Mapping[Ending, Meaning] = MappingProxyType(
    {
        Ending.SUCCESS: Meaning(Blame.NOBODY, FailureKind.NOTICE, "ended well"),
        Ending.DENIED: Meaning(
            Blame.AGENT,
            FailureKind.NOTICE,
            "gave no answer, and was denied what it wanted to do",
            "Allow it by `permissions` in the agents file, or say in its instructions how to do "
            "without.",
        ),
        Ending.NO_ANSWER: Meaning(
            Blame.AGENT, FailureKind.NOTICE, "never gave an answer that meets its schema"
        ),
        Ending.TURN_LIMIT: Meaning(
            Blame.AGENT,
            FailureKind.FAILED,
            "was stopped at its limit of turns",
            "Raise `max_turns` in the agents file, or make the requirement smaller.",
        ),
        Ending.BUDGET_LIMIT: Meaning(
            Blame.AGENT,
            FailureKind.FAILED,
            "was stopped at its limit of costs",
            "Raise `max_budget_usd` in the agents file, or make the requirement smaller.",
        ),
        Ending.INTERRUPTED: Meaning(
            Blame.AGENT, FailureKind.CRASH, "was interrupted before it had answered"
        ),
        Ending.CUT_OFF: Meaning(
            Blame.AGENT, FailureKind.CRASH, "stopped without an end of its stream"
        ),
        Ending.NOT_LOGGED_IN: Meaning(
            Blame.ACCOUNT_ASKS,
            FailureKind.LIMITED,
            "is not logged in",
            "Log in on this host, or set its key in the worker's environment and restart the "
            f"worker. {_RESUMES}",
        ),
        Ending.LOGIN_REFUSED: Meaning(
            Blame.ACCOUNT_ASKS,
            FailureKind.LIMITED,
            "has a login that its service refuses",
            f"Renew its key or login and restart the worker. {_RESUMES}",
        ),
        Ending.NO_CREDIT: Meaning(
            Blame.ACCOUNT_ASKS,
            FailureKind.LIMITED,
            "is out of credit",
            f"Add credit to the account. {_RESUMES}",
        ),
        Ending.USAGE_LIMIT: Meaning(
            Blame.ACCOUNT_WAITS,
            FailureKind.LIMITED,
            "cannot work now: the usage limit of its account is reached",
            "It is tried again when the limit is reset.",
        ),
        Ending.OVERLOADED: Meaning(
            Blame.ACCOUNT_WAITS,
            FailureKind.LIMITED,
            "cannot work now: its model's service is overloaded or fails",
            "It is tried again, ever more seldom.",
        ),
        Ending.UNREACHABLE: Meaning(
            Blame.ACCOUNT_WAITS,
            FailureKind.LIMITED,
            "cannot work now: its model's service cannot be reached",
            "It is tried again, ever more seldom: check the network and the service's address.",
        ),
        Ending.UNSERVED: Meaning(
            Blame.ACCOUNT_WAITS,
            FailureKind.LIMITED,
            "cannot work now: no agent host takes its work",
            "Start one where it works: python worker.py --role agent-host. It is tried again, ever "
            "more seldom.",
        ),
        Ending.HANDOVER: Meaning(
            Blame.HOST,
            FailureKind.REFUSED,
            "could not hand its work over to its agent host, or take it back",
            f"Mend what it says. {_GOES_ON}",
        ),
        Ending.UNKNOWN_MODEL: Meaning(
            Blame.HOST,
            FailureKind.REFUSED,
            "asked for a model that its account does not have",
            f"Correct `model` in the agents file. {_GOES_ON}",
        ),
        Ending.API_ERROR: Meaning(
            Blame.AGENT, FailureKind.CRASH, "was refused by its model's service"
        ),
        Ending.NO_SANDBOX: Meaning(
            Blame.HOST,
            FailureKind.REFUSED,
            "could run no command, since this host cannot make its sandbox",
            'Allow user namespaces on this host, or set permissions = "everything" where the host '
            f"itself is the sandbox. {_GOES_ON}",
        ),
        Ending.REFUSED_START: Meaning(
            Blame.HOST,
            FailureKind.REFUSED,
            "did not take how it was started",
            f"Correct `arguments` in the agents file, or install the program's version. {_GOES_ON}",
        ),
        Ending.FAILED: Meaning(Blame.AGENT, FailureKind.CRASH, "ended with an error"),
    }
)


def account_of(report: ProgramReport) -> str:
    """The account that cannot work now; empty if the ending is another matter."""
    waits = MEANINGS[report.ending].blame in (Blame.ACCOUNT_WAITS, Blame.ACCOUNT_ASKS)
    return report.account if waits else ""


def explained(report: ProgramReport) -> str:
    """What happened in one line, in the program's own words too; then what to do about it."""
    meaning = MEANINGS[report.ending]
    name = report.kind
    if account := account_of(report):
        name += f" (account {account})" if account != report.kind else ""
    until = f", until {report.until:%Y-%m-%d %H:%M} UTC" if report.until else ""
    said = " ".join(report.detail.split())[:_DETAIL_LENGTH]
    first = f"{name} {meaning.words}{until}" + (f": {said}" if said else ".")
    return "\n".join(filter(None, (first, denied(report), meaning.remedy)))


def denied(report: ProgramReport) -> str:
    """What it was denied, as a line; empty if nothing was."""
    if not report.denials:
        return ""
    shown = "; ".join(report.denials[:_DENIALS_SHOWN])
    rest = len(report.denials) - _DENIALS_SHOWN
    return f"Denied: {shown}" + (f"; and {rest} more" if rest > 0 else "")


LOSSES = 5
"""How often a session that was lost is resumed: no host is restarted so often during one stage, so
it may be the session itself that brings it down."""
LIMITS = 40
"""How often one that met a limit of its account is resumed. In an outage of a day a run tries about
thirty times, as pauses grow to an hour; beyond that its service may fail on the session itself."""

_ENDED_BY_SIGNAL = (137, 143)
"""Exit codes of a program that tells its own parent's signal: SIGKILL, SIGTERM."""


def may_resume(parts: Sequence[RunResult]) -> bool:
    """Whether the session goes on after the last of these ends, which are all of one run.

    Only one in which something was done: another one could do no less.
    """
    if not parts or not _was_cut_off(parts[-1]):
        return False
    if not any(part.report and part.report.has_worked for part in parts):
        return False
    limits = sum(_met_limit(part) for part in parts)
    losses = sum(_was_cut_off(part) for part in parts) - limits
    return limits <= LIMITS and losses <= LOSSES


def _was_cut_off(part: RunResult) -> bool:
    """Whether it stopped in the middle of its work, and not by a fault of its agent."""
    report = part.report
    if report is None or not report.session:
        return False
    if part.end is RunEnd.LOST:
        return report.ending not in (Ending.SUCCESS, Ending.DENIED, Ending.REFUSED_START)
    return _met_limit(part) or _was_killed(part)


def _met_limit(part: RunResult) -> bool:
    report = part.report
    is_limited = report is not None and MEANINGS[report.ending].kind is FailureKind.LIMITED
    return is_limited and part.end is RunEnd.EXITED


def _was_killed(part: RunResult) -> bool:
    """Whether something on its host has killed the program alone, as for want of memory."""
    code = part.exit_code
    is_cut_off = part.report is not None and part.report.ending is Ending.CUT_OFF
    is_signal = code is not None and (code < 0 or code in _ENDED_BY_SIGNAL)
    return part.end is RunEnd.EXITED and is_cut_off and is_signal


def why_cut_off(part: RunResult) -> str:
    """Why the session goes on, in a sentence for its agent."""
    if _met_limit(part):
        return "Your program's account could not work for a while."
    return "Your program was ended from outside in the middle of your work."
