"""Runs that were cut off: whether the session of their program is resumed, or they start anew."""

from collections.abc import Sequence

from pipeline.endings import MEANINGS
from pipeline.model import Ending, FailureKind, RunEnd, RunResult

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
