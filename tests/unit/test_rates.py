"""What a report says of many requirements, by made-up outcomes."""

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.model import NO_COST, Cost, FailureKind, Mode, RequirementState, StageState
from pipeline.rates import FailureFact, Outcome, Rates, RunFact, compared, rates, summary, trend
from pipeline.savings import Performance, Savings

MONDAY = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
DELIVERED, FAILED = RequirementState.DELIVERED, RequirementState.FAILED


def an_outcome(
    wall: float = 60,
    *,
    day: int = 0,
    mode: Mode = Mode.PARALLEL,
    state: RequirementState = DELIVERED,
    pipeline: str = "standard",
    work: tuple[float, float] = (100, 60),
    cost: Cost = NO_COST,
) -> Outcome:
    """One that was planned to take 50 minutes and to save half, ended on that day."""
    sequential, parallel = (timedelta(minutes=each) for each in work)
    none = timedelta()
    measured = Performance(Savings(sequential, parallel), timedelta(minutes=wall), none, none, none)
    ended = MONDAY + timedelta(days=day)
    return Outcome(
        f"REQ-{day}-{wall}", "A title", state, mode, pipeline, ended - timedelta(hours=2),
        ended if state.is_final else None, timedelta(minutes=50), 50.0, measured, cost, 1, 2,
    )  # fmt: skip


def test_many_requirements_are_summed() -> None:
    told = summary(
        [
            an_outcome(60, cost=Cost(usd=3.0)),
            an_outcome(100, work=(200, 90)),
            an_outcome(state=FAILED, cost=Cost(usd=1.0)),  # 100 in 60 minutes
            an_outcome(state=RequirementState.BLOCKED),  # not ended: its savings are not yet
        ]
    )

    assert told.states == {DELIVERED: 2, FAILED: 1, RequirementState.BLOCKED: 1}
    assert (told.ended, told.delivered_percent) == (3, 66.7)
    assert told.saved == timedelta(minutes=40 + 110 + 40)
    assert told.saved_percent == 47.5  # 190 of 400
    assert told.planned_saved_percent == 50.0
    assert (told.plan_error_p50, told.plan_error_p80) == (20.0, 100.0)  # of 50 minutes
    assert told.wall_p50 == timedelta(minutes=60)
    assert (told.fixes, told.questions) == (4, 8)
    assert told.cost_per_delivery == Cost(usd=2.0)


def test_nothing_gives_no_figure_and_no_error() -> None:
    empty = rates((), (), ())

    assert empty == Rates((), summary(()), (), (), (), ())
    assert (empty.summary.saved_percent, empty.summary.delivered_percent) == (None, None)
    assert (empty.summary.wall_p50, empty.summary.cost_per_delivery) == (None, None)


def a_run(agent: str, state: StageState, verdict: str = "", *, fix: bool = False) -> RunFact:
    return RunFact(agent, "claude", state, verdict, fix, 60.0, Cost(usd=1.0))


def test_a_tester_who_says_no_has_not_failed() -> None:
    runs = [
        a_run("billy", StageState.FAILED, "FAIL"),
        a_run("billy", StageState.COMPLETED, "PASS"),
        a_run("sylvia", StageState.BLOCKED, "REQUEST_CHANGES"),
        a_run("roy", StageState.FAILED),
        a_run("roy", StageState.COMPLETED),
        a_run("roy", StageState.COMPLETED, fix=True),
        a_run("roy", StageState.RUNNING),  # has not ended
        a_run("tim", StageState.BLOCKED),  # asks
    ]

    told = {line.agent: line for line in rates((), runs, ()).agents}

    assert list(told) == ["tim", "roy", "billy", "sylvia"]
    assert {agent: line.failure_percent for agent, line in told.items()} == {
        "tim": 100.0,
        "roy": 50.0,
        "billy": 0.0,
        "sylvia": 0.0,
    }
    assert (told["roy"].runs, told["roy"].fixes, told["roy"].fix_percent) == (2, 1, 50.0)
    assert (told["roy"].seconds, told["roy"].cost) == (180.0, Cost(usd=3.0))


def test_failures_are_counted_by_their_kind() -> None:
    told = rates(
        (),
        (),
        [
            FailureFact("REQ-1", FailureKind.CRASH, True),
            FailureFact("REQ-1", FailureKind.BUILD, True),
            FailureFact("REQ-1", FailureKind.BUILD, False),
            FailureFact("REQ-2", FailureKind.BUILD, True),
        ],
    ).kinds

    assert [(each.kind, each.failures, each.requirements, each.unresolved) for each in told] == [
        (FailureKind.BUILD, 3, 2, 1),
        (FailureKind.CRASH, 1, 1, 0),
    ]


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ((), []),
        ((0, 0, 2), [("2026-01-05", 1, 2), ("2026-01-07", 1, 1)]),
        # more than four weeks: from Monday to Monday; the week without an end is left out
        ((0, 6, 7, 30), [("2026-01-05", 7, 2), ("2026-01-12", 7, 1), ("2026-02-02", 7, 1)]),
    ],
)
def test_a_trend_is_told_by_days_or_weeks(
    days: tuple[int, ...], expected: list[tuple[str, int, int]]
) -> None:
    running = an_outcome(state=RequirementState.RUNNING)
    told = trend([running, *(an_outcome(day=day) for day in days)])

    assert [(str(p.first), p.days, p.summary.requirements) for p in told] == expected


def test_parallel_is_compared_with_sequential_on_the_same_pipeline() -> None:
    slow = [an_outcome(wall, mode=Mode.SEQUENTIAL) for wall in (100, 110, 120, 130, 140)]
    fast = [an_outcome(wall) for wall in (60, 70, 90, 95, 100)]
    other = an_outcome(5, mode=Mode.SEQUENTIAL, pipeline="small")
    failed = an_outcome(1, state=FAILED)

    small, standard = compared([*slow, *fast, other, failed])

    assert (standard.pipeline, standard.is_telling) == ("standard", True)
    assert standard.faster_percent == 25.0  # 90 for 120
    assert (small.is_telling, small.faster_percent) == (False, None)
    assert compared(slow[:4] + fast)[0].is_telling is False
