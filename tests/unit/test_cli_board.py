"""The board of `watch`: it fits its terminal, and cuts off nothing that is red or asked."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from adapters.sdlc.views import (
    BuildView,
    EscalationView,
    FailureView,
    FixView,
    HoldView,
    RequirementView,
    StageView,
)
from cli import output
from cli.board import Board, Watched
from cli.estimates import Rest
from cli.run_work import Work
from cli.verdict import needs_human, verdict
from pipeline.durations import Estimate, Source, StageEstimate
from pipeline.model import (
    HUMAN,
    NO_COST,
    Ask,
    FailureKind,
    Mode,
    Priority,
    RequirementState,
    StageState,
)
from pipeline.pauses import Pause, PauseKind

NOW = datetime(2026, 1, 5, 9, 10, tzinfo=UTC)
AT = NOW - timedelta(minutes=10)
TERMINALS = [(80, 24), (120, 40)]
EVIL = "\x1b[2J\x1b]0;title\x07 up\x1b[A \u202edetfel\u202c \r overwritten \t 漢字 " + 30 * "long "
ERROR = "error TS2345: Argument of type 'string' is not assignable to type 'number' in a/b/c.ts"


def a_stage(name: str, state: StageState, **changes: object) -> StageView:
    started = AT if state is not StageState.WAITING else None
    ended = NOW if state is StageState.COMPLETED else None
    stage = StageView(name, "roy", "Work", state, 1, 1, started, ended, "", "")
    return replace(stage, **changes)  # type: ignore[arg-type] # each test names real fields


DONE = a_stage("Research", StageState.COMPLETED)
WORK = a_stage("Backend Implementation", StageState.RUNNING)
TO_COME = a_stage("Documentation Update", StageState.WAITING)
BLOCKED = tuple(
    a_stage(f"A stage that needs it {nth}", StageState.BLOCKED, reason="Needs it.")
    for nth in range(7)
)
FAILURE = FailureView(
    1, "Work", FailureKind.BUILD, "build backend", ("roy",), 1, f"{ERROR}\nmore", "", "", AT, None
)
ASK = Ask("Work", "build backend", f"build backend is red for the third time: {ERROR}")
ANSWERS = ("retry 'Backend Implementation'", "decide abort")
QUESTION = EscalationView(1, 2, (ASK,), ANSWERS, AT, 0, None, "", "", "")
FIX = FixView(
    "REQ-1-FIX-1", "REQ-1", 1, "roy", "build backend", RequirementState.RUNNING, "", AT, None
)
HOLD = HoldView("opening", ("REQ-9",), "REQ-9 is open and P0.", AT, None)
RUNNING = RequirementView(
    "REQ-1", f"A title {EVIL}", Priority.P2, RequirementState.RUNNING, "standard", Mode.PARALLEL,
    0, "host", None, None, "", "", AT, AT, AT, None, "", None, None, None, None,
    (DONE, WORK, TO_COME), (), (), (), (), None, cost=NO_COST,
)  # fmt: skip
BUILDING = replace(
    RUNNING, building=(BuildView("REQ-1", "backend", "Work", "roy", "c0ffee" * 6, AT),)
)
REPAIRED = replace(
    RUNNING,
    state=RequirementState.BLOCKED,
    waiting_for=FIX.number,
    stages=(DONE, *BLOCKED),
    failures=(FAILURE,),
    fixes=(FIX,),
)
ASKED = replace(REPAIRED, waiting_for=HUMAN, fixes=(), escalation=QUESTION)
HELD = replace(RUNNING, state=RequirementState.HELD, stages=(TO_COME,), holds=(HOLD,))
PAUSE = Pause("REQ-1", PauseKind.SUSPEND, AT, "ada")
PAUSED = replace(
    HELD, pauses=(PAUSE,), holds=(replace(HOLD, held_by=(PAUSE.name,), reason=PAUSE.reason),)
)
DELIVERED = replace(
    RUNNING, state=RequirementState.DELIVERED, stages=(DONE,), reason="Delivered to main."
)
STATES = {
    "running": RUNNING,
    "building": BUILDING,
    "red": REPAIRED,
    "asked": ASKED,
    "held": HELD,
    "paused": PAUSED,
    "delivered": DELIVERED,
}


def watched(view: RequirementView) -> Watched:
    return Watched(view, {WORK.stage: 30}, {WORK.stage: Work(EVIL)})


def lines(width: int, height: int, *views: RequirementView) -> list[str]:
    """The board as a terminal of that size shows it."""
    shown = StringIO()
    console = Console(file=shown, width=width, height=height, force_terminal=True, no_color=True)
    console.print(Board([watched(view) for view in views], NOW, "q ends"), end="")
    plain = [
        line.plain for line in Board([*map(watched, views)], NOW, "q ends").lines(width, height)
    ]
    assert len(shown.getvalue().splitlines()) <= height
    return plain


def text(rows: list[str]) -> str:
    return " ".join(" ".join(rows).split())


@pytest.mark.parametrize(("width", "height"), TERMINALS)
@pytest.mark.parametrize("state", STATES)
def test_the_board_fits_and_nothing_in_it_controls_the_terminal(
    state: str, width: int, height: int
) -> None:
    many = [replace(STATES[state], number=f"REQ-{nth}") for nth in range(1, 31)]
    for views in ([STATES[state]], many, [*STATES.values()]):
        rows = lines(width, height, *views)
        assert len(rows) <= height
        assert [row for row in rows if cell_len(row) > width] == []
        assert not any(ord(each) < 32 or each in "\x7f\u202e\u202c" for row in rows for each in row)


@pytest.mark.parametrize(("width", "height"), TERMINALS)
def test_what_is_asked_and_red_is_shown_whole_and_first(width: int, height: int) -> None:
    at_work = tuple(replace(WORK, stage=f"At work {nth}") for nth in range(30))
    rows = lines(width, height, RUNNING, replace(ASKED, number="REQ-2", stages=at_work))

    shown = text(rows)
    assert rows[0].startswith("REQ-2 BLOCKED: A human must answer a question.")
    assert ASK.reason in shown
    assert f"RED: build backend (roy): {ERROR}" in shown
    assert "starter.py retry REQ-2 'Backend Implementation'" in shown
    assert "starter.py decide REQ-2 abort" in shown
    assert shown.index("ASKED") < shown.index("RED") < shown.index("At work 0")
    assert "REQ-1 RUNNING" in shown


def test_what_is_blocked_is_one_line() -> None:
    rows = lines(80, 24, REPAIRED)

    (line,) = [row for row in rows if "A stage that needs it" in row]
    assert line.startswith("Blocked: 7 need what failed")
    assert any("REQ-1-FIX-1" in row and "repairs build backend" in row for row in rows)


def test_a_running_stage_has_a_bar_its_time_its_plan_and_its_last_line() -> None:
    _, _, row, log, *_ = lines(80, 24, RUNNING)

    assert row.count("█") == pytest.approx((row.count("█") + row.count("░")) / 3, abs=1)
    assert row.endswith("10m00s of 30m00s")
    assert log.lstrip().startswith("│")
    late = replace(RUNNING, stages=(replace(WORK, started_at=NOW - timedelta(hours=1)),))
    assert "░" not in lines(80, 24, late)[2]
    assert any("build backend" in row and "10m00s" in row for row in lines(80, 24, BUILDING))


def test_earlier_runs_tell_how_long_it_takes_yet_and_the_bar_of_a_stage() -> None:
    stage = StageEstimate(WORK.stage, WORK.agent, 1_200, 2_400, 0, 0, Source.STAGE, 9)
    free = Rest(Estimate(600, 1_800, (stage,)), (), NOW)
    held = replace(free, adds=("the hold by REQ-9 since 12:01",))

    def board(rest: Rest) -> list[str]:
        shown = Watched(RUNNING, {WORK.stage: 30}, {}, rest)
        return [line.plain for line in Board([shown], NOW).lines(80, 24)]

    half, most = (output.since(NOW + timedelta(minutes=each), NOW) for each in (10, 30))
    assert f"Expected end: {half} (p50, in 10m00s), {most} (p80, in 30m00s)." in board(free)
    assert any(row.endswith("10m00s of 20m00s") for row in board(free))
    waits = "Expected work: 10m00s (p50), 30m00s (p80); the hold by REQ-9 since 12:01 not counted."
    assert waits in text(board(held))


def test_work_that_is_taken_over_is_not_its_agents_time() -> None:
    merging = Work(agent_ended_at=NOW - timedelta(seconds=12))
    board = Board([Watched(RUNNING, {WORK.stage: 30}, {WORK.stage: merging})], NOW)

    (row,) = [line.plain for line in board.lines(80, 24) if WORK.stage in line.plain[:30]]
    assert "taken over" in row
    assert row.endswith(" 12s")


def test_a_terminal_without_these_characters_gets_others_of_the_same_width() -> None:
    shown = StringIO()
    console = Console(file=shown, width=80, height=24)
    options = replace(console.options, encoding="ascii")
    (board,) = Board([watched(RUNNING)], NOW).__rich_console__(console, options)

    assert str(board).isascii()
    assert "####" in str(board)


@pytest.mark.parametrize(
    ("view", "says", "asks"),
    [
        (RUNNING, "Backend Implementation (roy) works.", False),
        (BUILDING, "Backend Implementation (roy) works, build backend runs.", False),
        (replace(BUILDING, stages=()), "build backend runs.", False),
        (replace(RUNNING, stages=(DONE, TO_COME)), "It is between two steps.", False),
        (replace(RUNNING, stages=(DONE,)), "It is being delivered.", False),
        (REPAIRED, "roy repairs build backend; nobody needs to act.", False),
        (
            replace(REPAIRED, waiting_for="orchestrator", fixes=()),
            "The orchestrator sees to what is red; nobody needs to act.",
            False,
        ),
        (ASKED, "A human must answer a question.", True),
        (
            replace(REPAIRED, waiting_for="REQ-1-FIX-1, human", escalation=QUESTION),
            "roy repairs build backend; a human must answer as well.",
            False,
        ),
        (HELD, "It waits for REQ-9; nobody needs to act.", False),
        (
            replace(ASKED, pauses=(PAUSE,)),
            "A human must answer a question. It is paused: nothing new starts.",
            True,
        ),
        (PAUSED, "It is paused by ada, until: python starter.py unpause REQ-1", False),
        (
            replace(HELD, holds=(replace(HOLD, account="work"),)),
            "A human must see to an account or a budget; nothing runs meanwhile.",
            True,
        ),
        (DELIVERED, "Delivered to main.", False),
    ],
)
def test_the_verdict_says_whether_a_human_must_act(
    view: RequirementView, says: str, asks: bool
) -> None:
    assert (verdict(view), needs_human(view)) == (says, asks)
