"""How long a requirement is likely to take: what is known, played through the plan."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.durations import (
    NOTHING,
    Ahead,
    Kept,
    Known,
    Piece,
    Source,
    Subject,
    WorkRow,
    estimate,
    known,
)
from pipeline.forecast import percentile
from pipeline.model import Mode, Pipeline, Stage
from pipeline.schedule import plan_schedule, with_flags
from pipeline.team import FLAGS
from tests.plans import PIPELINES, a_plan, a_stage, shipped

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)


def ahead_of(plan: Pipeline, kind: str = "") -> Sequence[Ahead]:
    return [Ahead(stage, kind, stage.minutes * 60) for stage in plan.stages]


def learned(plan: Pipeline, values: Mapping[str, Sequence[float]]) -> Known:
    return Known(
        {
            Subject(plan.name, stage.name, stage.agent, ""): values[stage.name]
            for stage in plan.stages
            if stage.name in values
        }
    )


@pytest.mark.parametrize("mode", list(Mode))
@pytest.mark.parametrize("slots", [None, 1, 2])
@pytest.mark.parametrize("name", sorted(path.stem for path in PIPELINES.glob("*.toml")))
@pytest.mark.parametrize("flags", [frozenset(), frozenset(FLAGS)])
def test_where_nothing_is_known_it_is_the_schedule(
    name: str, slots: int | None, mode: Mode, flags: frozenset[str]
) -> None:
    plan = with_flags(shipped(name), flags)
    told = estimate(plan, ahead_of(plan), NOTHING, mode=mode, slots=slots)

    planned = plan_schedule(shipped(name), mode=mode, flags=flags, slots=slots)
    assert (told.p50, told.p80) == pytest.approx((planned.makespan_minutes * 60,) * 2)
    assert not told.is_learned
    assert told.by_file == tuple(stage.name for stage in plan.stages)
    starts = {stage.stage: stage.start_minute * 60 for stage in planned.stages}
    for stage in told.stages:
        assert stage.rest_p80 == pytest.approx(told.p80 - starts[stage.stage])


def test_quantiles_of_chains_and_of_parallel_stages_are_those_of_many_random_draws() -> None:
    """Four in a row, then three at once: neither sums nor maxima of the stages' quantiles."""
    chance = random.Random(5)
    rows = [a_stage(f"row {nth}", needs=[f"row {nth - 1}"][: nth and 1]) for nth in range(4)]
    wide = [a_stage(f"wide {nth}", needs=["row 3"]) for nth in range(3)]
    plan = a_plan(*rows, *wide)
    values = {
        stage.name: [chance.lognormvariate(4, 0.7) for _ in range(5 + 7 * nth)]
        for nth, stage in enumerate(plan.stages)
    }

    told = estimate(plan, ahead_of(plan), learned(plan, values))

    def drawn() -> float:
        pick = {name: chance.choice(of_stage) for name, of_stage in values.items()}
        return sum(pick[s.name] for s in rows) + max(pick[s.name] for s in wide)

    draws = [drawn() for _ in range(20_000)]
    assert told.p50 == pytest.approx(percentile(draws, 0.5), rel=0.03)
    assert told.p80 == pytest.approx(percentile(draws, 0.8), rel=0.03)
    each = {name: percentile(of_stage, 0.8) for name, of_stage in values.items()}
    naive = sum(each[s.name] for s in rows) + max(each[s.name] for s in wide)
    assert told.p80 < 0.95 * naive


ROY = a_stage("Backend", "roy", minutes=10)


@pytest.mark.parametrize(
    ("known_runs", "source", "p80"),
    [
        ({Subject("plan", "Backend", "roy", "codex"): [1, 2, 3, 4, 5]}, Source.PIPELINE, 4),
        ({Subject("other", "Backend", "roy", "codex"): [1, 2, 3, 4, 5]}, Source.STAGE, 4),
        ({Subject("other", "Fix it", "roy", "codex"): [1, 2, 3, 4, 5]}, Source.AGENT, 4),
        (
            {
                Subject("plan", "Backend", "roy", "codex"): [1, 2, 3],
                Subject("other", "Backend", "roy", "codex"): [8, 9],
            },
            Source.STAGE,
            8,
        ),
        # four tell nothing; nor does another agent, or another kind of the same one
        ({Subject("plan", "Backend", "roy", "codex"): [1, 2, 3, 4]}, Source.FILE, 600),
        ({Subject("plan", "Backend", "jen", "codex"): [1, 2, 3, 4, 5]}, Source.FILE, 600),
        ({Subject("plan", "Backend", "roy", "claude-code"): [1, 2, 3, 4, 5]}, Source.FILE, 600),
    ],
)
def test_the_nearest_runs_tell_and_fewer_than_five_do_not(
    known_runs: Mapping[Subject, Sequence[float]], source: Source, p80: float
) -> None:
    told = estimate(a_plan(ROY), ahead_of(a_plan(ROY), "codex"), Known(known_runs))

    (stage,) = told.stages
    assert (stage.source, stage.p80, told.p80) == (source, p80, p80)


def one(stage: Stage, values: Sequence[float], **ahead: float | bool) -> tuple[float, float]:
    plan = a_plan(stage)
    told = estimate(
        plan,
        [Ahead(stage, None, stage.minutes * 60, **ahead)],  # type: ignore[arg-type] # one by one
        learned(plan, {stage.name: values}),
    )
    return told.p50, told.p80


def test_a_running_stage_takes_what_is_left_of_those_that_took_longer() -> None:
    values = [10, 20, 30, 40, 100]
    assert one(ROY, values, is_running=True, elapsed=25.0) == (15, 75)
    assert one(ROY, values, is_running=True, elapsed=500.0) == (0, 0)
    assert one(ROY, (), is_running=True, elapsed=500.0) == (100, 100)


def test_a_conditional_stage_counts_as_often_as_it_was_needed() -> None:
    maybe = a_stage("Security", "vic", flag="needs_vic", minutes=10)
    often, seldom = [0, 50, 60, 70, 80], [0, 0, 0, 0, 50]

    assert one(maybe, often, is_certain=False) == (60, 70)
    assert one(maybe, seldom, is_certain=False) == (0, 0)
    assert one(maybe, (), is_certain=False) == (0, 0)  # nobody knows: it is named instead
    told = estimate(a_plan(maybe), [Ahead(maybe, None, 600, is_certain=False)], NOTHING)
    assert (told.may_come, told.by_file) == (("Security",), ())
    assert one(maybe, [*often, 90], is_certain=True) == (70, 80)  # once it runs, no 0 counts


def test_builds_delay_what_needs_their_stage_and_the_end() -> None:
    built = Stage(**{**vars(ROY), "builds": ("backend",)})
    after = a_stage("After", needs=["Backend"], minutes=1)
    plan = a_plan(built, after)

    told = estimate(plan, ahead_of(plan), Known(builds={"build backend": [7.0]}))

    assert told.p80 == 600 + 7 + 60 + 7  # after the stage, and once more before the delivery
    assert told.stages[1].rest_p80 == 67


def a_run(number: str, stage: str, begin: float, end: float, **fields: object) -> WorkRow:
    at = [BEGIN + timedelta(seconds=each) for each in (begin, end)]
    values: dict[str, object] = {
        "pipeline": "plan", "is_delivered": True, "is_of_fix": False, "piece": Piece.RUN,
        "agent": "roy", "started_at": at[0], "ended_at": at[1], "closed_at": at[1],
        "p50": 50.0, "p80": 60.0,
    }  # fmt: skip
    return WorkRow(number=number, name=stage, **{**values, **fields})  # type: ignore[arg-type]


def test_rows_tell_durations_repairs_and_whether_p80_held() -> None:
    second = timedelta(seconds=1)
    rows = [
        a_run("REQ-2", "Backend", 0, 30, suspensions=(BEGIN + 5 * second, BEGIN + 15 * second)),
        a_run("REQ-2", "Frontend", 10, 40, agent="jen", closed_at=BEGIN + 45 * second),
        a_run("REQ-2", "build b", 45, 50, piece=Piece.BUILD, closed_at=None),
        a_run("REQ-1", "Backend", 0, 20, is_done=False),
        a_run("REQ-1", "Backend", 100, 112, is_of_fix=True),
        a_run("REQ-1", "Backend", 112, 150),
        a_run("REQ-0", "Backend", 0, 9, is_delivered=False),
    ]
    told = known(rows)

    backend = Subject("plan", "Backend", "roy", "")
    frontend = Subject("plan", "Frontend", "jen", "")
    assert told.stages == {backend: [20, 38, 9], frontend: [35]}
    assert told.builds == {"build b": [5]}
    assert told.repairs == {"plan": [0, 32]}  # the run that failed, and the fix
    assert told.kept == (Kept("REQ-2", 50, 60, 45), Kept("REQ-1", 50, 60, 70))
    assert told.held_percent == 50
    assert NOTHING.held_percent is None


def test_repairs_count_as_often_as_there_were_any_without_those_that_are_over() -> None:
    plan = a_plan(ROY)
    of_five = Known(repairs={"plan": [0, 0, 100, 200, 400]})
    of_four = Known(repairs={"plan": [100, 100, 200, 400]})

    def p80(knows: Known, repaired: float = 0.0) -> float:
        return estimate(plan, ahead_of(plan), knows, repaired=repaired).p80 - 600

    assert (p80(of_five), p80(of_four)) == (200, 0)
    assert p80(of_five, repaired=150) == 250
