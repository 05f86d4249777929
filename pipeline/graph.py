"""Questions to the graph of stages: order, cycles, what lies before and after a stage."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from graphlib import CycleError, TopologicalSorter

from pipeline.model import Pipeline


def ancestors(pipeline: Pipeline, name: str) -> tuple[str, ...]:
    """The stages that must be done before that one, transitively, in plan order.

    Raises: KeyError if there is no such stage.
    """
    found = set(pipeline.stage(name).needs)
    for stage in reversed(pipeline.stages):
        if stage.name in found:
            found.update(stage.needs)
    return tuple(stage.name for stage in pipeline.stages if stage.name in found)


def dependents(pipeline: Pipeline, name: str) -> tuple[str, ...]:
    """The stages that wait for that one, transitively, without itself, in plan order.

    Raises: KeyError if there is no such stage.
    """
    reached = {pipeline.stage(name).name}
    found = []
    for stage in pipeline.stages:
        if not reached.isdisjoint(stage.needs):
            reached.add(stage.name)
            found.append(stage.name)
    return tuple(found)


def remaining_minutes(pipeline: Pipeline) -> Mapping[str, float]:
    """Per stage, the longest path from its start to the end of the plan, itself included.

    Conditional stages count: whether they run is not known before quality assurance.
    """
    return {name: float(minutes) for name, minutes in exact_remaining(pipeline).items()}


def exact_remaining(pipeline: Pipeline) -> Mapping[str, Fraction]:
    """`remaining_minutes` without rounding, so that sums and differences of paths are exact."""
    after: dict[str, Fraction] = {}
    remaining: dict[str, Fraction] = {}
    for stage in reversed(pipeline.stages):
        path = Fraction(stage.minutes) + after.get(stage.name, Fraction())
        remaining[stage.name] = path
        for need in stage.needs:
            after[need] = max(path, after.get(need, path))
    return remaining


def find_cycle(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...] | None:
    """A cycle, each name needing the next and the first standing again at the end, or None."""
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        # graphlib lists each node before the one that needs it
        return tuple(reversed(error.args[1]))
    return None


def topological_order(needs: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The names, each after what it needs, otherwise as they came.

    A legal order comes back unchanged. Raises: ValueError for a cycle or an unknown need.
    """
    waiting = dict(needs)
    order: list[str] = []
    while waiting:
        ready = next((name for name in waiting if waiting.keys().isdisjoint(waiting[name])), None)
        if ready is None or not needs.keys() >= set(waiting[ready]):
            raise ValueError(f"no order: {', '.join(waiting)}")
        order.append(ready)
        del waiting[ready]
    return tuple(order)
