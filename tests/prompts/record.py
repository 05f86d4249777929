"""What each agent of the shipped team is told, as files to read: `python -m tests.prompts.record`.

Record them again after a change of a template or of the rendering, and read the difference.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from pipeline.agents_file import BuildCommand
from pipeline.handover import Document, Handover
from pipeline.model import (
    Deliverable,
    HandingRun,
    Head,
    Priority,
    RequirementRef,
    StageContext,
    StageRequest,
)
from pipeline.prompt import Place, ProjectText, stage_prompt
from pipeline.team import TEAM, Role
from tests.plans import TEMPLATES, shipped

HERE = Path(__file__).parent

RESEARCH = HandingRun("REQ-7/run/Research/1", "", "Research (cynthia)")
CONTEXT = StageContext(
    title="Greet in the user's language",
    description="Whoever opens the page is greeted in the language of the browser.\n\n- en\n- de",
    owners={"backend": "roy", "frontend": "jen"},
)
LATER = replace(
    CONTEXT,
    deliverables=(Deliverable("Research", "cynthia", '{"summary": "Two files change."}'),),
    handed=(RESEARCH,),
)
PLACE = Place(
    worktree="/agog/clones/REQ-7/stage-work-1",
    outbox="/agog/runs/REQ-7/run/work-1/outbox",
    builds={
        "backend": BuildCommand("backend", ("uv", "run", "pytest"), ("uv", "sync")),
        "frontend": BuildCommand("web", ("npm", "run", "build"), ("npm", "ci")),
    },
    programs=("git", "npm"),
    missing=("uv",),
    handed={
        RESEARCH.run_id: Handover(
            (Document("/agog/runs/REQ-7/run/work-1/inbox/research-1/research.md", 12_345),),
            ("Left out: secrets is a link.",),
        )
    },
)
OVERLAID = replace(
    PLACE,
    project=ProjectText(".agog/prompts/roy.md", "Use the house's logger.", changed_since="c0ffee"),
    instructions=("Commit messages are in French.",),
)


def told(agent: str) -> str:
    """Everything that an agent of the standard pipeline is told in a usual case."""
    stage = next(each for each in shipped("standard").stages if each.agent == agent)
    request = StageRequest(
        RequirementRef("REQ-7", "run"),
        Priority.P2,
        replace(stage, deadline=timedelta(hours=2)),
        1,
        Head("deadbeef", 3),
        10.0,
        staging_only=True,  # as for every agent that may run beside a measurement
    )
    is_first = TEAM[agent].role == Role.RESEARCH
    context = CONTEXT if is_first else LATER
    place = OVERLAID if agent == "roy" else PLACE
    prompt = stage_prompt(TEMPLATES, request, context, place)
    return prompt.by_schema if agent in ("jen", "liz") else prompt.text


if __name__ == "__main__":
    for name in TEAM:
        (HERE / f"{name}.md").write_text(told(name), encoding="utf-8")
