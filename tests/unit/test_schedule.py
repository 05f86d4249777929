import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RefusedInput
from pipeline.model import Mode, Pipeline
from pipeline.schedule import Schedule, plan_schedule
from pipeline.team import FLAGS
from tests.plans import a_plan, a_stage, shipped

BOTH = frozenset(FLAGS)
NAMES = [f"s{number}" for number in range(8)]


def spans(schedule: Schedule) -> dict[str, tuple[float, float]]:
    return {stage.stage: (stage.start_minute, stage.end_minute) for stage in schedule.stages}


@st.composite
def plans(draw: st.DrawFn) -> Pipeline:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    stages = [a_stage(names[0], "billy", minutes=draw(st.floats(0.1, 100)))]
    for place, name in enumerate(names[1:], 1):
        needs = draw(st.lists(st.sampled_from(names[:place]), min_size=1, unique=True))
        flag = draw(st.sampled_from([None, None, *FLAGS]))
        stages.append(a_stage(name, needs=needs, minutes=draw(st.floats(0.1, 100)), flag=flag))
    return a_plan(*stages)


@pytest.mark.parametrize(
    ("name", "flags", "sequential", "makespan", "percentage"),
    [
        ("standard", frozenset(), 420, 315, 25.0),
        ("standard", BOTH, 540, 375, 30.6),
        ("final-stages", frozenset(), 420, 300, 28.6),
        ("final-stages", BOTH, 540, 360, 33.3),
        ("critical-path", frozenset(), 420, 270, 35.7),
        ("critical-path", BOTH, 540, 330, 38.9),
    ],
)
def test_the_promised_figures(
    name: str, flags: frozenset[str], sequential: float, makespan: float, percentage: float
) -> None:
    schedule = plan_schedule(shipped(name), mode=Mode.PARALLEL, flags=flags)

    assert schedule.sequential_minutes == sequential
    assert schedule.makespan_minutes == schedule.critical_path_minutes == makespan
    assert schedule.saved_minutes == sequential - makespan
    assert schedule.percentage_saved == percentage


def test_the_critical_path_is_named() -> None:
    schedule = plan_schedule(shipped("final-stages"), mode=Mode.PARALLEL)

    assert schedule.critical_path == (
        "Research",
        "Critique",
        "Backend Implementation",
        "Backend QA",
        "Statistics",
        "Documentation Update",
    )


def test_stages_stand_in_the_order_of_their_starts_with_agent_group_and_needs() -> None:
    schedule = plan_schedule(shipped("standard"), mode=Mode.PARALLEL)

    roy = schedule.stages[2]
    assert (roy.stage, roy.agent, roy.group) == ("Backend Implementation", "roy", "Implementation")
    assert (roy.start_minute, roy.end_minute, roy.needs) == (75, 135, ("Critique",))
    assert len(schedule.stages) == 9


def test_what_needs_an_unflagged_specialist_waits_for_the_tests_instead() -> None:
    one = plan_schedule(shipped("standard"), mode=Mode.PARALLEL, flags=frozenset({"needs_vic"}))
    none = plan_schedule(shipped("standard"), mode=Mode.PARALLEL)

    needs = {stage.stage: stage.needs for stage in one.stages}
    assert "Performance Testing" not in needs
    assert needs["Statistics"] == ("Backend QA", "Frontend QA", "Security Testing")
    assert spans(none)["Statistics"] == (180, 270)


def test_sequential_mode_runs_in_plan_order_and_saves_exactly_nothing() -> None:
    schedule = plan_schedule(shipped("critical-path"), mode=Mode.SEQUENTIAL)

    assert schedule.makespan_minutes == 420
    assert schedule.saved_minutes == 0
    assert schedule.percentage_saved == 0
    assert schedule.critical_path_minutes == 270
    ends = [stage.end_minute for stage in schedule.stages]
    assert [stage.start_minute for stage in schedule.stages] == [0, *ends[:-1]]


def test_with_one_slot_the_longest_path_ahead_goes_first() -> None:
    plan = a_plan(
        a_stage("short", minutes=5),
        a_stage("long", minutes=10),
        a_stage("chained", minutes=1),
        a_stage("after", needs=["chained"], minutes=20),
    )

    schedule = plan_schedule(plan, mode=Mode.PARALLEL, slots=1)

    assert [stage.stage for stage in schedule.stages] == ["chained", "after", "long", "short"]
    assert schedule.makespan_minutes == 36
    assert schedule.critical_path_minutes == 21


def test_durations_replace_minutes() -> None:
    durations = {"Frontend Implementation": 30.0, "Backend QA": 30.0}

    standard = plan_schedule(shipped("standard"), mode=Mode.PARALLEL, durations=durations)
    critical = plan_schedule(shipped("critical-path"), mode=Mode.PARALLEL, durations=durations)

    # the standard pipeline waits for the slower of each pair: 60 + 45
    assert standard.makespan_minutes == 315
    # roy 60 + billy 30 beside jen 30 + liz 45
    assert critical.makespan_minutes == 270 - 15
    assert standard.sequential_minutes == critical.sequential_minutes == 420 - 45


def test_an_empty_plan_takes_no_time() -> None:
    schedule = plan_schedule(a_plan(), mode=Mode.PARALLEL)

    assert schedule.makespan_minutes == schedule.sequential_minutes == 0
    assert schedule.percentage_saved == 0
    assert schedule.critical_path == ()


@given(plans(), st.sampled_from(Mode), st.sets(st.sampled_from(FLAGS)), st.integers(1, 4))
def test_every_schedule_keeps_needs_slots_and_bounds(
    plan: Pipeline, mode: Mode, flags: set[str], slots: int
) -> None:
    schedule = plan_schedule(plan, mode=mode, flags=frozenset(flags), slots=slots)

    at = spans(schedule)
    assert at.keys() == {s.name for s in plan.stages if s.flag is None or s.flag in flags}
    for stage in schedule.stages:
        assert all(at[need][1] <= stage.start_minute for need in stage.needs)
        running = [s for s, (start, end) in at.items() if start <= stage.start_minute < end]
        assert len(running) <= (1 if mode is Mode.SEQUENTIAL else slots)
    assert schedule.critical_path_minutes <= schedule.makespan_minutes
    assert schedule.makespan_minutes <= schedule.sequential_minutes
    assert 0 <= schedule.percentage_saved < 100


@given(plans())
def test_without_a_bound_the_makespan_is_the_critical_path(plan: Pipeline) -> None:
    schedule = plan_schedule(plan, mode=Mode.PARALLEL, flags=BOTH)

    assert schedule.makespan_minutes == schedule.critical_path_minutes


@given(plans())
def test_one_slot_saves_exactly_nothing(plan: Pipeline) -> None:
    schedule = plan_schedule(plan, mode=Mode.PARALLEL, flags=BOTH, slots=1)

    assert schedule.saved_minutes == 0


@pytest.mark.parametrize("minutes", [0.0, -1.0, float("nan"), float("inf")])
def test_impossible_durations_are_refused(minutes: float) -> None:
    with pytest.raises(RefusedInput, match="minutes of 'Research' must be above zero"):
        plan_schedule(shipped("standard"), mode=Mode.PARALLEL, durations={"Research": minutes})


def test_unknown_stages_flags_and_no_slots_are_refused() -> None:
    plan = shipped("standard")

    with pytest.raises(RefusedInput, match="no stage 'Reserch'"):
        plan_schedule(plan, mode=Mode.PARALLEL, durations={"Reserch": 1})
    with pytest.raises(RefusedInput, match="Unknown flag 'needs_bob'"):
        plan_schedule(plan, mode=Mode.PARALLEL, flags=frozenset({"needs_bob", "needs_vic"}))
    with pytest.raises(RefusedInput, match="at least one slot, not 0"):
        plan_schedule(plan, mode=Mode.PARALLEL, slots=0)
