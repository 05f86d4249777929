from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import PlanRefused
from pipeline.model import Bounds
from pipeline.plan_file import read_durations, read_pipeline
from pipeline.team import TEAM, Side
from tests.plans import PIPELINES, shipped

GROUPS = """
name = "mine"
[[groups]]
name = "One"
[[groups]]
name = "Two"
needs = ["One"]
"""
FIRST = """
[[stages]]
name = "First"
agent = "billy"
group = "One"
minutes = 10
"""
SECOND = """
[[stages]]
name = "Second"
agent = "tim"
group = "Two"
minutes = 2.5
"""
PLAN = GROUPS + FIRST + SECOND


def refusal(text: str) -> str:
    with pytest.raises(PlanRefused) as refused:
        read_pipeline(text, "mine.toml")
    return str(refused.value)


def test_a_small_plan_gets_its_defaults_and_its_barrier() -> None:
    plan = read_pipeline(PLAN, "mine.toml")

    first, second = plan.stages
    assert plan.name == "mine"
    assert [group.needs for group in plan.groups] == [(), ("One",)]
    assert first.needs == ()
    assert second.needs == ("First",)
    assert second.minutes == 2.5
    assert second.deadline == timedelta(minutes=5)
    assert second.grace == timedelta(minutes=5)
    assert second.retries == 0
    assert second.flag is None
    assert second.builds == ()


def test_bounds_are_those_of_the_design_where_the_file_says_nothing() -> None:
    bounds = read_pipeline(PLAN, "mine.toml").bounds

    assert (bounds.reds, bounds.depth, bounds.reviews, bounds.usd) == (3, 3, 2, None)


def test_bounds_are_the_files() -> None:
    text = "[bounds]\nreds = 1\nhours = 1.5\nusd = 20\nwarn_usd = 15\nreminder_hours = 2\n"
    text += "extension_factor = 1.5\n"
    bounds = read_pipeline(PLAN.replace("[[groups]]", f"{text}[[groups]]", 1), "mine.toml").bounds

    assert bounds == Bounds(
        reds=1,
        work=timedelta(hours=1.5),
        usd=20.0,
        warn_usd=15.0,
        reminder=timedelta(hours=2),
        extension_factor=1.5,
    )


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("reds = 21", "bounds.reds"),
        ("hours = 0", "bounds.hours"),
        ("colour = 1", "bounds.colour"),
        ("usd = 0", "bounds.usd"),
        ("usd = 5\nwarn_usd = 6", "bounds.warn_usd"),
    ],
)
def test_bad_bounds_are_refused_by_their_key(text: str, key: str) -> None:
    plan = PLAN.replace("[[groups]]", f"[bounds]\n{text}\n[[groups]]", 1)

    assert refusal(plan).startswith(f"mine.toml: {key}: ")


def test_what_the_file_says_replaces_the_defaults() -> None:
    more = """
    deadline_minutes = 11
    grace_minutes = 0
    retries = 2
    flag = "needs_vic"
    builds = ["backend", "backend", "end-2-end"]
    needs = ["First"]
    """

    stage = read_pipeline(PLAN + more, "mine.toml").stage("Second")

    assert stage.deadline == timedelta(minutes=11)
    assert stage.grace == timedelta()
    assert stage.retries == 2
    assert stage.flag == "needs_vic"
    assert stage.builds == ("backend", "end-2-end")


@pytest.mark.parametrize("agent", ["roy", "jen", "cynthia"])
def test_nobody_is_tried_again_who_does_not_declare_it(agent: str) -> None:
    plan = read_pipeline(PLAN.replace("billy", agent), "mine.toml")

    assert plan.stage("First").retries == 0


def test_own_needs_replace_the_barrier_even_when_empty() -> None:
    plan = read_pipeline(PLAN + "needs = []", "mine.toml")

    assert plan.stage("Second").needs == ()


def test_the_order_of_the_file_is_kept_where_it_is_legal_and_repaired_where_not() -> None:
    third = SECOND.replace("Second", "Third")

    legal = read_pipeline(GROUPS + FIRST + third + SECOND, "mine.toml")
    illegal = read_pipeline(GROUPS + third + SECOND + FIRST, "mine.toml")

    assert [stage.name for stage in legal.stages] == ["First", "Third", "Second"]
    assert [stage.name for stage in illegal.stages] == ["First", "Third", "Second"]


ONE_SIDED = {"one-sided": Side.BACKEND, "one-sided-frontend": Side.FRONTEND}


OF_THE_ELEVEN = sorted(path for path in PIPELINES.glob("*.toml") if path.stem != "monorepo")


@pytest.mark.parametrize("path", OF_THE_ELEVEN, ids=lambda path: path.stem)
def test_each_shipped_pipeline_is_called_like_its_file_and_has_the_team_of_its_sides(
    path: Path,
) -> None:
    plan = shipped(path.stem)

    sides = [ONE_SIDED[path.stem]] if path.stem in ONE_SIDED else list(Side)
    assert plan.name == path.stem
    assert plan.builds == tuple(sides)
    assert sorted(stage.agent for stage in plan.stages) == sorted(
        agent.name for agent in TEAM.values() if agent.side in (None, *sides)
    )
    for stage in plan.stages:
        assert stage.retries == (1 if stage.agent in ("roy", "jen") else 0)
        assert stage.deadline == timedelta(minutes=2 * stage.minutes)


def test_the_shipped_pipelines_have_the_designs_barriers() -> None:
    standard, final, critical = map(shipped, ("standard", "final-stages", "critical-path"))

    assert [group.name for group in standard.groups] == [
        "Research",
        "Critique",
        "Implementation",
        "Quality Assurance",
        "Conditional Testing",
        "Statistics",
        "DevOps",
        "Documentation",
    ]
    assert standard.stage("DevOps Deployment").needs == ("Statistics",)
    assert final.stage("Documentation Update").needs == ("Statistics", "DevOps Deployment")
    specialists = ("Performance Testing", "Security Testing")
    assert critical.stage("Backend QA").needs == ("Backend Implementation",)
    assert critical.stage("Frontend QA").needs == ("Frontend Implementation",)
    assert critical.stage("Statistics").needs == specialists
    assert critical.stage("DevOps Deployment").needs == specialists
    assert critical.stage("Documentation Update").needs == ("DevOps Deployment",)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("name = ", "TOML", "Invalid value"),
        ("x = " + "[" * 10_000, "TOML", "nested too deeply"),
        ("x = " + "9" * 5_000, "TOML", "digits"),
        ("", "name", "is missing"),
        ('name = ""', "name", "not empty"),
        ("name = 1", "name", "must be a string"),
        ('name = "x"', "groups", "is missing"),
        ('name = "x"\ngroups = []', "groups", "must not be empty"),
        ('name = "x"\ngroups = [1]', "groups", "list of tables"),
        ('name = "x"\n[groups]', "groups", "list of tables"),
        ('name = "x"\n[[groups]]', "groups[0].name", "is missing"),
        (GROUPS, "stages", "is missing"),
        (
            "colour = 1\n" + PLAN,
            "colour",
            "unknown key; known are name, bounds, agents, groups, stages",
        ),
        (PLAN + "minute = 1", 'stages."Second".minute', "unknown key"),
        (GROUPS + "stages = []" + FIRST, 'groups."Two".stages', "unknown key"),
        (GROUPS + FIRST, 'groups."Two"', "has no stages"),
        (PLAN.replace('"One"]', '"Zero"]'), 'groups."Two".needs', "unknown group 'Zero'"),
        (PLAN.replace('"One"]', '"Two"]'), "groups", "a cycle: Two needs Two"),
        (PLAN.replace('needs = ["One"]', 'needs = "One"'), 'groups."Two".needs', "list of strings"),
        (PLAN.replace('["One"]', '["One", 1]'), 'groups."Two".needs', "must hold strings"),
        (PLAN.replace('name = "Two"', 'name = "One"'), "groups", "2 are called 'One'"),
        (PLAN.replace("Second", "First"), "stages", "2 are called 'First'"),
        (PLAN.replace("Second", "FIRST"), 'stages."FIRST"', "share the branch 'first'"),
        (PLAN.replace('group = "Two"', 'group = "Ten"'), 'stages."Second".group', "unknown group"),
        (PLAN.replace('group = "Two"\n', ""), 'stages."Second".group', "is missing"),
        (PLAN.replace('"tim"', '"bob"'), 'stages."Second".agent', "unknown agent 'bob'; known are"),
        (PLAN + 'needs = ["Zeroth"]', 'stages."Second".needs', "unknown stage 'Zeroth'"),
        (PLAN + 'needs = ["Second"]', "stages", "a cycle: Second needs Second"),
        (PLAN + 'flag = "needs_bob"', 'stages."Second".flag', "unknown flag 'needs_bob'"),
        (PLAN + "flag = true", 'stages."Second".flag', "must be a string"),
        (PLAN + "retries = -1", 'stages."Second".retries', "whole number from 0 to 10"),
        (PLAN + "retries = 11", 'stages."Second".retries', "whole number from 0 to 10"),
        (PLAN + "retries = true", 'stages."Second".retries', "whole number"),
        (PLAN + "retries = 1.0", 'stages."Second".retries', "whole number"),
        (PLAN + "grace_minutes = -1", 'stages."Second".grace_minutes', "zero or more"),
        (PLAN + "deadline_minutes = 0", 'stages."Second".deadline_minutes', "above zero"),
        (PLAN + 'builds = ["../x"]', 'stages."Second".builds', "lower-case letters"),
        (PLAN + 'builds = ["Back"]', 'stages."Second".builds', "lower-case letters"),
        (PLAN + 'builds = ["a-"]', 'stages."Second".builds', "lower-case letters"),
        (PLAN.replace("Second", "deliver"), 'stages."deliver"', "own last step"),
        (PLAN.replace("Second", "Deliver!"), 'stages."Deliver!"', "own last step"),
        (PLAN.replace("Second", "build backend"), 'stages."build backend"', "are the builds'"),
        (PLAN.replace("Second", "a/b"), "stages[1].name", "slash"),
        (PLAN.replace("Second", " a"), "stages[1].name", "a space at an end"),
        (PLAN.replace("Second", "a\\nb"), "stages[1].name", "control character"),
        (PLAN.replace("Second", "…"), "stages[1].name", "needs a letter or digit"),
        (PLAN.replace("Second", "x" * 61), "stages[1].name", "61 characters, at most 60"),
    ],
)
def test_a_bad_plan_is_refused_with_file_key_and_reason(text: str, key: str, reason: str) -> None:
    message = refusal(text)

    assert message.startswith(f"mine.toml: {key}: ")
    assert reason in message


@pytest.mark.parametrize(
    "minutes", ["0", "-5", "true", '"45"', "nan", "inf", "-inf", "1e300", "43201", "[]"]
)
def test_a_bad_duration_is_refused(minutes: str) -> None:
    text = PLAN.replace("2.5", minutes)

    assert refusal(text).startswith('mine.toml: stages."Second".minutes: must be ')


def test_a_cycle_through_a_barrier_is_named() -> None:
    text = GROUPS + FIRST + 'needs = ["Second"]' + SECOND

    assert "stages: a cycle: " in refusal(text)
    assert "First needs Second" in refusal(text)
    assert "Second needs First" in refusal(text)


def test_a_flag_must_be_raised_by_quality_assurance_before_the_stage() -> None:
    conditional = PLAN + 'flag = "needs_vic"'

    assert read_pipeline(conditional, "mine.toml").stage("Second").flag == "needs_vic"
    for text in (
        conditional.replace("billy", "roy"),
        conditional + "\nneeds = []",
        GROUPS + FIRST + 'flag = "needs_vic"' + SECOND,
    ):
        assert ".flag: nobody before this stage can raise needs_vic" in refusal(text)


def test_a_plan_too_large_to_travel_is_refused() -> None:
    def stages(count: int, group: str, length: int) -> str:
        stage = FIRST.replace("One", group)
        names = (f"{group} {number} ".ljust(length, "x") for number in range(count))
        return "".join(stage.replace("First", name) for name in names)

    assert "65 stages, at most 64" in refusal(GROUPS + stages(64, "One", 10) + SECOND)
    # 32 stages that need 32 others of 60 letters each
    crowded = GROUPS + stages(32, "One", 60) + stages(32, "Two", 60)
    assert f"their needs spell out {32 * 32 * 60} bytes" in refusal(crowded)
    assert (
        len(read_pipeline(GROUPS + stages(32, "One", 10) + stages(32, "Two", 10), "").stages) == 64
    )


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, PLAN + text, PLAN.replace("Second", text)):
        with suppress(PlanRefused):
            assert len(read_pipeline(candidate, "mine.toml").stages) == 2


def test_durations_are_minutes_by_stage_name() -> None:
    text = '"Backend QA" = 30\n"Frontend QA" = 0.5'

    assert read_durations(text, "my.toml") == {"Backend QA": 30, "Frontend QA": 0.5}
    with pytest.raises(PlanRefused, match=r"^my\.toml: Research: must be a number$"):
        read_durations('Research = "long"', "my.toml")
