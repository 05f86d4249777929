"""Which ends are no fault of an agent, so that the session of its program goes on."""

import pytest

from pipeline.endings import LIMITS, LOSSES, may_resume, why_cut_off
from pipeline.model import Ending, ProgramReport, RunEnd, RunResult


def a_part(
    ending: Ending = Ending.CUT_OFF,
    end: RunEnd = RunEnd.LOST,
    code: int | None = None,
    *,
    session: str = "s-1",
    has_worked: bool = True,
) -> RunResult:
    kind = "claude-code"
    report = ProgramReport(kind, kind, ending, session=session, has_worked=has_worked)
    return RunResult(end, code, "", "", None, None, 1, "log", report=report)


LOST = a_part()
LIMITED = a_part(Ending.USAGE_LIMIT, RunEnd.EXITED, 1)
KILLED = a_part(Ending.CUT_OFF, RunEnd.EXITED, -9)


@pytest.mark.parametrize(
    ("part", "goes_on"),
    [
        (LOST, True),
        (LIMITED, True),
        (a_part(Ending.OVERLOADED, RunEnd.EXITED, 1), True),
        (a_part(Ending.LOGIN_REFUSED, RunEnd.EXITED, 1), True),
        (KILLED, True),
        (a_part(Ending.CUT_OFF, RunEnd.EXITED, 143), True),
        (a_part(Ending.CUT_OFF, RunEnd.EXITED, 1), False),  # by itself: a crash
        (a_part(Ending.SUCCESS, RunEnd.LOST), False),  # it has answered
        (a_part(Ending.SUCCESS, RunEnd.EXITED, 0), False),
        (a_part(Ending.TURN_LIMIT, RunEnd.EXITED, 1), False),
        (a_part(Ending.INTERRUPTED, RunEnd.EXITED, 0), False),
        (a_part(Ending.REFUSED_START, RunEnd.EXITED, 1), False),
        (a_part(end=RunEnd.TIMED_OUT), False),
        (a_part(end=RunEnd.CANCELLED), False),
        (a_part(end=RunEnd.NOT_STARTED), False),
        (a_part(session=""), False),
        (a_part(has_worked=False), False),
        (RunResult(RunEnd.LOST, None, "", "", None, None, 1, "log"), False),  # a plain command
    ],
)
def test_a_run_that_was_cut_off_goes_on(part: RunResult, goes_on: bool) -> None:
    assert may_resume([part]) is goes_on


@pytest.mark.parametrize("part", [LOST, KILLED])
def test_a_session_that_is_lost_again_and_again_is_given_up(part: RunResult) -> None:
    assert may_resume([part] * LOSSES)
    assert not may_resume([part] * (LOSSES + 1))


def test_limits_are_bounded_apart_from_losses() -> None:
    assert may_resume([*[LOST] * LOSSES, *[LIMITED] * LIMITS])
    assert not may_resume([LIMITED] * (LIMITS + 1))


def test_what_was_done_before_is_not_forgotten() -> None:
    assert may_resume([LOST, a_part(has_worked=False)])


def test_its_agent_is_told_why() -> None:
    assert "ended from outside" in why_cut_off(LOST)
    assert "account could not work" in why_cut_off(LIMITED)
