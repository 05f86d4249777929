"""Plans for tests: the shipped pipelines, and a short notation for stages without a file."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from pathlib import Path

from adapters.runs.prompts import read_templates
from pipeline.model import Group, Pipeline, Stage
from pipeline.plan_file import read_pipeline

HOUSE = Path(__file__).parent.parent
PIPELINES = HOUSE / "pipelines"
TEMPLATES = read_templates(HOUSE / "prompts")

OWNERS = {"backend": "roy", "frontend": "jen"}
"""Who answers for the sides of the eleven."""


def shipped(name: str) -> Pipeline:
    return read_pipeline((PIPELINES / f"{name}.toml").read_text(), f"{name}.toml")


def a_stage(
    name: str,
    agent: str = "tim",
    needs: Iterable[str] = (),
    minutes: float = 10,
    flag: str | None = None,
) -> Stage:
    return Stage(
        name=name,
        agent=agent,
        group="Work",
        needs=tuple(needs),
        minutes=minutes,
        deadline=timedelta(minutes=2 * minutes),
        grace=timedelta(minutes=5),
        flag=flag,
    )


def a_plan(*stages: Stage) -> Pipeline:
    return Pipeline("plan", (Group("Work"),), stages)


def a_graph(needs: Mapping[str, Iterable[str]]) -> Pipeline:
    return a_plan(*(a_stage(name, needs=names) for name, names in needs.items()))
