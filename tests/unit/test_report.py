"""What a report says of a requirement's time, by made-up rows: minutes from nine o'clock."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from pipeline.history import BuildTimes, History, RunTimes, Wait, WaitKind
from pipeline.model import PRE_EMPTION, Cost, Interval, Mode, Pipeline, StageState
from pipeline.overlap import Cause, Relation, needs_of, overlaps
from pipeline.report import RequirementFacts, requirement_report
from pipeline.time_spent import END, Part, add_up, critical_path, stretches, work_of
from tests.plans import shipped

NINE = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
PLAN = shipped("standard")
RESEARCH, CRITIQUE = "Research", "Critique"
ROY, JEN, BILLY = "Backend Implementation", "Frontend Implementation", "Backend QA"


def at(minute: float) -> datetime:
    return NINE + timedelta(minutes=minute)


def minutes(time: timedelta) -> float:
    return time / timedelta(minutes=1)


def a_run(
    stage: str,
    opened: float,
    started: float | None,
    ended: float | None,
    closed: float | None,
    **changes: object,
) -> RunTimes:
    moments = (None if each is None else at(each) for each in (started, ended, closed))
    begun, end, done = moments
    fields: dict[str, object] = {"number": "REQ-1", "attempt": 1, "state": StageState.COMPLETED}
    agent = PLAN.stage(stage).agent if stage in needs_of(PLAN) else "roy"
    fields |= {"stage": stage, "agent": agent, "opened_at": at(opened), "started_at": begun}
    fields |= {"ended_at": end, "closed_at": done, **changes}
    return RunTimes(**fields)  # type: ignore[arg-type] # its own fields


def a_wait(
    kind: WaitKind, start: float, end: float | None, boundary: str = "", why: str = ""
) -> Wait:
    return Wait(kind, "REQ-1", boundary, why, at(start), None if end is None else at(end))


def a_history(
    *runs: RunTimes,
    builds: tuple[BuildTimes, ...] = (),
    waits: tuple[Wait, ...] = (),
    opened: float | None = 0,
    ended: float | None = None,
    now: float = 100,
    delivering: tuple[Interval, ...] = (),
) -> History:
    begin, end = (None if each is None else at(each) for each in (opened, ended))
    return History("REQ-1", begin, end, at(now), runs, builds, waits, delivering)


def a_build(start: float, end: float, side: str = "backend", stage: str = ROY) -> BuildTimes:
    return BuildTimes(f"build {side}", stage, "green", at(start), at(end))


FIXED = a_history(
    a_run(RESEARCH, 1, 2, 10, 11),
    a_run(CRITIQUE, 11, 12, 20, 20),
    a_run(ROY, 21, 21, 40, 41),
    a_run(JEN, 21, 21, 30, 31),
    a_run("Fix build backend", 50, 51, 60, 61, number="REQ-1-FIX-1"),
    builds=(a_build(42, 50), a_build(62, 65)),
    waits=(a_wait(WaitKind.HUMAN, 66, 70),),
    delivering=(Interval(at(70), at(72)),),
    ended=73,
)
"""Two agents at once, a red build, its fix, a question, the delivery."""


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (a_history(opened=None), {}),
        (a_history(ended=0), {}),
        (a_history(now=5), {Part.REST: 5}),
        (
            FIXED,
            # research 8, critique 8, roy with jen 19; queue: 2 and 1 before the agents, then
            # nothing was ready before 20 to 21, and what the fix waited for (50 to 51)
            {
                Part.AGENTS: 35, Part.BUILDS: 11, Part.FIXES: 9, Part.MERGES: 5, Part.HUMANS: 4,
                Part.QUEUE: 5, Part.REST: 4,
            },
        ),
        (
            # one runs since 10, beside one that an outage held and one that was never started
            a_history(
                a_run(RESEARCH, 0, 10, None, None, state=StageState.RUNNING),
                waits=(a_wait(WaitKind.HOLD, 2, 6), a_wait(WaitKind.LIMIT, 4, 8)),
                now=20,
            ),
            {Part.AGENTS: 10, Part.LIMITS: 4, Part.HOLDS: 2, Part.QUEUE: 4},
        ),
        (
            # suspended from 10 to 15, by the row of a run that has ended
            a_history(
                a_run(RESEARCH, 0, 0, 20, 20, suspensions=(at(10), at(15))), ended=20
            ),
            {Part.AGENTS: 15, Part.HOLDS: 5},
        ),
        (
            # suspended since 10, by the hold alone: the run has not ended
            a_history(
                a_run(RESEARCH, 0, 0, None, None, state=StageState.RUNNING),
                waits=(a_wait(WaitKind.HOLD, 10, None, PRE_EMPTION),),
                now=30,
            ),
            {Part.AGENTS: 10, Part.HOLDS: 20},
        ),
        (
            # cut off by a limit at 10: the agent does not work although its run is open
            a_history(
                a_run(RESEARCH, 0, 0, None, None, state=StageState.HELD),
                waits=(a_wait(WaitKind.LIMIT, 10, None, RESEARCH),),
                now=30,
            ),
            {Part.AGENTS: 10, Part.LIMITS: 20},
        ),
        (
            # lost with its host: closed without an end
            a_history(a_run(RESEARCH, 0, 0, None, 12, state=StageState.FAILED), ended=15),
            {Part.AGENTS: 12, Part.REST: 3},
        ),
        (
            # a clone that was prepared for three minutes of five
            a_history(
                a_run(
                    RESEARCH, 0, 5, 6, 6, prepare_started_at=at(1), prepare_ended_at=at(4)
                ),
                ended=6,
            ),
            {Part.AGENTS: 1, Part.PREPARING: 3, Part.QUEUE: 2},
        ),
        (
            # queued for a slot since 3, as the stage's row says
            a_history(waits=(a_wait(WaitKind.SLOT, 3, None, RESEARCH),), now=10),
            {Part.QUEUE: 7, Part.REST: 3},
        ),
        (
            # a clock that was set back makes no time
            a_history(a_run(RESEARCH, 5, 5, 2, 1), builds=(a_build(4, 3),), ended=8),
            {Part.QUEUE: 5, Part.REST: 3},
        ),
    ],
)  # fmt: skip
def test_each_moment_counts_once(history: History, expected: Mapping[Part, float]) -> None:
    parts = stretches(history, needs_of(PLAN))

    assert {part: minutes(took) for part, took in add_up(parts).items() if took} == expected
    for one, other in pairwise(parts):
        assert one.end == other.start
    if parts:
        assert (parts[0].start, parts[-1].end) == (history.opened_at, history.end)


def test_the_work_of_the_parts_is_that_of_the_savings() -> None:
    assert {part: minutes(took) for part, took in work_of(FIXED).items()} == {
        Part.AGENTS: 8 + 8 + 19 + 9,
        Part.BUILDS: 8 + 3,
        Part.FIXES: 9,
    }


def test_the_critical_path_is_what_the_end_waited_for() -> None:
    path = critical_path(FIXED, needs_of(PLAN), stretches(FIXED, needs_of(PLAN)))

    assert [(each.name, minutes(each.delay), minutes(each.length)) for each in path] == [
        (RESEARCH, 2, 8),
        (CRITIQUE, 2, 8),
        (ROY, 1, 19),  # jen was done earlier
        ("build backend", 2, 8),
        ("REQ-1-FIX-1", 1, 9),
        ("build backend", 2, 3),
        (END, 8, 0),
    ]
    assert minutes(sum((each.delay + each.length for each in path), timedelta())) == 73
    assert minutes(path[-1].waited[Part.HUMANS]) == 4


@pytest.mark.parametrize(
    "history",
    [
        a_history(opened=None),
        a_history(ended=0),
        a_history(now=10),
        a_history(a_run(RESEARCH, -5, -4, -2, -1), ended=3),
        a_history(a_run(RESEARCH, 0, 1, 1, 1), a_run(RESEARCH, 1, 1, 1, 1, attempt=2), ended=1),
        a_history(a_run(RESEARCH, 0, 0, None, None, state=StageState.RUNNING), now=7),
    ],
)
def test_the_critical_path_comes_to_an_end_and_adds_up(history: History) -> None:
    path = critical_path(history, needs_of(PLAN), stretches(history, needs_of(PLAN)))
    whole = history.end - history.opened_at if history.opened_at else timedelta()

    assert sum((each.delay + each.length for each in path), timedelta()) == whole


def test_a_build_of_the_other_side_is_not_what_a_tester_waited_for() -> None:
    plan = shipped("critical-path")
    history = a_history(
        a_run(ROY, 0, 0, 10, 10),
        a_run(JEN, 0, 0, 5, 5),
        a_run(BILLY, 20, 20, 30, 30),
        builds=(a_build(10, 15), a_build(10, 18, "frontend", JEN)),
        ended=30,
    )
    needs = needs_of(plan)

    path = critical_path(history, needs, stretches(history, needs))

    assert [each.name for each in path] == [ROY, "build backend", BILLY, END]


def facts(history: History, *asked: str) -> RequirementFacts:
    states = {stage.name: StageState.COMPLETED for stage in PLAN.stages}
    costs = {
        ("REQ-1", ROY, 1): Cost(usd=2.0),
        ("REQ-1-FIX-1", "Fix build backend", 1): Cost(usd=0.5, is_estimated=True),
    }
    return RequirementFacts(history, PLAN, Mode.PARALLEL, states, frozenset(asked), costs)


def test_plan_and_cost_stand_beside_what_came_of_it() -> None:
    report = requirement_report(facts(FIXED))

    assert (minutes(report.planned), minutes(report.wall)) == (315, 73)
    assert report.plan_error == -76.8  # 73 / 315 - 1
    roy = next(each for each in report.agents if each.agent == "roy")
    assert (roy.runs, minutes(roy.worked), roy.cost) == (2, 28, Cost(usd=2.5, is_estimated=True))
    stages = {each.stage: each for each in report.stages}
    assert stages["Security Testing"].planned is None
    assert (stages[ROY].started_at, stages[ROY].ended_at) == (at(21), at(40))


def test_a_specialist_counts_in_the_plan_once_it_is_needed() -> None:
    assert minutes(requirement_report(facts(FIXED, "Security Testing")).planned) == 375
    assert requirement_report(facts(a_history(now=5))).plan_error is None


def test_a_report_on_nothing_is_empty() -> None:
    empty = RequirementFacts(
        a_history(opened=None), Pipeline("none", (), ()), Mode.PARALLEL, {}, frozenset(), {}
    )

    report = requirement_report(empty)

    assert (report.wall, report.path, report.stages, report.agents) == (timedelta(), (), (), ())
    assert overlaps(empty.history, empty.pipeline, empty.mode).is_proved


# --- stages that should overlap -------------------------------------------------------------------

BEFORE = (a_run(RESEARCH, 0, 0, 10, 10), a_run(CRITIQUE, 10, 10, 20, 20))


@pytest.mark.parametrize(
    ("jen", "waits", "mode", "relation", "cause"),
    [
        (a_run(JEN, 20, 21, 30, 30), (), Mode.PARALLEL, Relation.OVERLAPPED, None),
        # a second attempt overlaps: the pair did
        (a_run(JEN, 20, 20.5, 30, 30), (), Mode.SEQUENTIAL, Relation.OVERLAPPED, None),
        (a_run(JEN, 41, 41, 50, 50), (), Mode.SEQUENTIAL, Relation.APART, Cause.SEQUENTIAL),
        (a_run(JEN, 41, 41, 50, 50), (), Mode.PARALLEL, Relation.APART, Cause.QUEUED),
        (a_run(JEN, 20, 41, 50, 50), (), Mode.PARALLEL, Relation.APART, Cause.STARTING),
        (
            a_run(JEN, 41, 41, 50, 50),
            (a_wait(WaitKind.HOLD, 20, 40, JEN, "REQ-911 is a P0"),),
            Mode.PARALLEL,
            Relation.APART,
            Cause.HELD,
        ),
        # three seconds of work could not have been seen beside anything
        (a_run(JEN, 41, 41, 41.05, 42), (), Mode.PARALLEL, Relation.TOO_SHORT, None),
        # unless it is known why
        (a_run(JEN, 41, 41, 41.05, 42), (), Mode.SEQUENTIAL, Relation.APART, Cause.SEQUENTIAL),
        (a_run(JEN, 41, None, None, 50), (), Mode.PARALLEL, Relation.NOT_RUN, None),
    ],
)
def test_two_stages_that_wait_for_the_same_should_overlap(
    jen: RunTimes, waits: tuple[Wait, ...], mode: Mode, relation: Relation, cause: Cause | None
) -> None:
    history = a_history(*BEFORE, a_run(ROY, 20, 20, 40, 40), jen, waits=waits)

    found = overlaps(history, PLAN, mode)

    [pair] = [each for each in found.pairs if (each.first, each.second) == (ROY, JEN)]
    assert pair.relation is relation
    assert (pair.delay and pair.delay.cause) == cause
    assert found.is_proved == (relation is Relation.OVERLAPPED)
    if cause is Cause.HELD:
        assert pair.delay
        assert (pair.delay.stage, pair.delay.reason) == (JEN, "REQ-911 is a P0")
        assert minutes(pair.delay.length) == 21


def test_a_tester_who_had_to_wait_for_its_build_is_not_blamed() -> None:
    plan = shipped("critical-path")
    history = a_history(
        a_run(ROY, 0, 0, 10, 10),
        a_run(JEN, 0, 0, 20, 20),
        a_run(BILLY, 25, 25, 30, 30),
        builds=(a_build(10, 25),),
    )

    pairs = {(p.first, p.second): p.relation for p in overlaps(history, plan, Mode.PARALLEL).pairs}

    assert pairs[ROY, JEN] is Relation.OVERLAPPED
    assert pairs[JEN, BILLY] is Relation.AFTER
    assert pairs[ROY, BILLY] is Relation.ORDERED
