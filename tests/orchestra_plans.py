"""Short plans of real agents and builds."""

from dataclasses import replace

from pipeline.model import Bounds, Pipeline
from pipeline.plan_file import read_pipeline

BACKEND, FRONTEND = "Backend Implementation", "Frontend Implementation"


def team_of(*groups: str) -> Pipeline:
    """The stages of those groups, one group after another; what fails asks a human at once."""
    lines = ['name = "short"', "[bounds]", "reds = 1"]
    for name, before in zip(groups, ("", *groups), strict=False):
        needs = f'"{before}"' if before else ""
        lines += ["[[groups]]", f'name = "{name}"', f"needs = [{needs}]"]
        for stage, agent, rest in _STAGES[name]:
            lines += ["[[stages]]", f'name = "{stage}"', f'agent = "{agent}"', f'group = "{name}"']
            lines += ["minutes = 10", *rest]
    return read_pipeline("\n".join(lines), "short.toml")


def repaired(plan: Pipeline) -> Pipeline:
    """The same plan, whose failures go back to their owners."""
    return replace(plan, bounds=Bounds())


_STAGES = {
    "Research": (("Research", "cynthia", ()),),
    "Implementation": (
        (BACKEND, "roy", ('builds = ["backend"]', "retries = 1")),
        (FRONTEND, "jen", ('builds = ["frontend"]', "retries = 1")),
    ),
    "Backend": ((BACKEND, "roy", ('builds = ["backend"]', "retries = 0")),),
    "Quality Assurance": (("Backend QA", "billy", ()), ("Frontend QA", "liz", ())),
    "DevOps": (("DevOps Deployment", "berry", ()),),
}

PAIR = team_of("Implementation")
"""roy beside jen, then both builds and the delivery."""
SOLO = team_of("Backend")
"""roy alone, with his build."""
FOUR = team_of("Implementation", "Quality Assurance")
"""roy beside jen, then billy beside liz."""
FIVE = team_of("Research", "Implementation", "Quality Assurance")
"""cynthia before those four."""
