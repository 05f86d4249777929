from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import graph
from pipeline.model import Pipeline
from tests.plans import a_graph, a_plan, a_stage, shipped

NAMES = [f"s{number}" for number in range(8)]


@st.composite
def plans(draw: st.DrawFn) -> Pipeline:
    names = NAMES[: draw(st.integers(1, len(NAMES)))]
    minutes = st.integers(1, 1000).map(lambda tenths: tenths / 10)
    return a_plan(
        *(
            a_stage(
                name,
                needs=draw(st.lists(st.sampled_from(names[:place]), unique=True)) if place else (),
                minutes=draw(minutes),
            )
            for place, name in enumerate(names)
        )
    )


def test_ancestors_and_dependents_are_transitive_and_in_plan_order() -> None:
    plan = a_graph({"a": (), "b": ["a"], "c": ["b"], "d": ["c", "a"], "e": ()})

    assert graph.ancestors(plan, "d") == ("a", "b", "c")
    assert graph.dependents(plan, "a") == ("b", "c", "d")
    assert graph.ancestors(plan, "e") == ()
    assert graph.dependents(plan, "e") == ()


@pytest.mark.parametrize("question", [graph.ancestors, graph.dependents])
def test_an_unknown_stage_is_an_error(question: Callable[[Pipeline, str], object]) -> None:
    with pytest.raises(KeyError, match="nobody"):
        question(a_graph({"a": ()}), "nobody")


@given(plans())
def test_ancestors_and_dependents_mirror_each_other(plan: Pipeline) -> None:
    for one in plan.stages:
        for other in plan.stages:
            is_before = one.name in graph.ancestors(plan, other.name)
            is_after = other.name in graph.dependents(plan, one.name)
            assert is_before == is_after


def test_remaining_minutes_is_the_longest_path_to_the_end() -> None:
    plan = shipped("critical-path")

    remaining = graph.remaining_minutes(plan)

    assert remaining["Statistics"] == 90
    assert remaining["DevOps Deployment"] == 15 + 30
    assert remaining["Backend QA"] == 45 + 60 + 90
    assert remaining["Research"] == 330


@given(plans())
def test_a_path_grows_by_at_least_the_own_minutes(plan: Pipeline) -> None:
    remaining = graph.exact_remaining(plan)
    for stage in plan.stages:
        after = [remaining[name] for name in graph.dependents(plan, stage.name)]
        assert remaining[stage.name] == Fraction(stage.minutes) + max(after, default=0)


@pytest.mark.parametrize(
    ("needs", "cycle"),
    [
        ({}, None),
        ({"a": [], "b": ["a"]}, None),
        ({"a": ["a"]}, {"a"}),
        ({"a": ["b"], "b": ["a"]}, {"a", "b"}),
        ({"x": [], "a": ["c"], "b": ["a"], "c": ["b", "x"]}, {"a", "b", "c"}),
    ],
)
def test_a_cycle_is_found_and_named(needs: dict[str, list[str]], cycle: set[str] | None) -> None:
    found = graph.find_cycle(needs)

    if cycle is None:
        assert found is None
    else:
        assert found is not None
        assert found[0] == found[-1]
        assert set(found) == cycle
        assert all(after in needs[before] for before, after in pairwise(found))


@given(plans())
def test_a_legal_order_comes_back_unchanged(plan: Pipeline) -> None:
    needs = {stage.name: stage.needs for stage in plan.stages}

    assert graph.topological_order(needs) == tuple(needs)


@given(plans(), st.randoms())
def test_any_order_becomes_legal(plan: Pipeline, random: Random) -> None:
    shuffled = random.sample(plan.stages, len(plan.stages))

    order = graph.topological_order({stage.name: stage.needs for stage in shuffled})

    place = {name: position for position, name in enumerate(order)}
    assert place.keys() == {stage.name for stage in plan.stages}
    for stage in plan.stages:
        assert all(place[need] < place[stage.name] for need in stage.needs)


@pytest.mark.parametrize("needs", [{"a": ["b"], "b": ["a"]}, {"a": ["stranger"]}])
def test_no_order_is_invented_where_there_is_none(needs: dict[str, list[str]]) -> None:
    with pytest.raises(ValueError, match="no order: a"):
        graph.topological_order(needs)
