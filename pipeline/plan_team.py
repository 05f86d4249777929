"""The team of a plan: the eleven, and whom its file declares beside them, under `[[agents]]`.

A plan that declares nobody names the eleven, and nothing here concerns it. In any other plan each
stage carries its agent with what follows from the others: who owns what a tester finds red, which
flags may be raised, which builds belong to a side. So nobody needs the whole team later.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from pipeline.model import HUMAN, ORCHESTRATOR, SASHA, Pipeline
from pipeline.plan_rules import BrokenRule, is_build_name, stage_key
from pipeline.team import (
    AGENT_NAME,
    FLAGS,
    TEAM,
    Agent,
    Role,
    acquainted,
    is_agent_name,
    token_of,
)
from pipeline.toml_table import Table

INSTRUCTIONS_LENGTH = 4_000
AGENTS_BYTES = 24 * 1024
"""Bound of what all stages carry of their agents: the plan travels in the workflow's input."""

_KEYS = ("name", "role", "side", "builds", "flag", "raises", "instructions")
_OF_A_SIDE = (Role.IMPLEMENTATION, Role.QA)
_FLAG = re.compile(r"needs(_[a-z0-9]+)+")
_NOT_AGENTS = (HUMAN, ORCHESTRATOR, SASHA, "stage", "other", *Role)
"""Others who act in records, and names of templates: a template of an agent's name is its own."""


@dataclass(frozen=True)
class Declared:
    """An agent as the file declares it, without what follows from the others.

    `flag` asks for it; `raises` is None where it may raise what its role does.
    """

    agent: Agent
    flag: str | None
    raises: tuple[str, ...] | None


Team = Mapping[str, Declared]


def agent_key(name: str) -> str:
    """How a refusal names an agent's table."""
    return f'agents."{name}"'


def read_team(tables: Sequence[Table], templates: Collection[str]) -> Team:
    """The agents that tables declare, by name; `templates` are the names of those in `prompts/`.

    Raises: what the tables' refusal makes; BrokenRule for what belongs to two of them.
    """
    team: dict[str, Declared] = {}
    for table in tables:
        name = _name(table)
        if name in team:
            raise BrokenRule(agent_key(name), "is declared twice")
        team[name] = _declared(table.moved(agent_key(name)), name, templates)
    _check_shared(team, "builds", {name: each.agent.builds for name, each in team.items()})
    flags = {name: (each.flag,) if each.flag else () for name, each in team.items()}
    _check_shared(team, "flag", flags)
    return team


def with_team(pipeline: Pipeline, team: Team) -> Pipeline:
    """The pipeline, each stage with its agent as the whole team makes it.

    Raises: BrokenRule for whoever has no stage, a side that nobody implements, a build that nobody
        answers for or nobody verifies, a flag that nobody waits for.
    """
    if not team:
        return pipeline
    _check_stages(pipeline, team)
    _check_flags(pipeline, team)
    here = dict.fromkeys(stage.agent for stage in pipeline.stages)
    order = (name for name in (*TEAM, *team) if name in here)
    agents = [_with_builds(_agent(name, team), pipeline, team) for name in order]
    _check_sides(pipeline, agents)
    _check_builds(pipeline, agents)
    sides = {agent.side: tuple(_side_builds(agent.side, pipeline, agents)) for agent in agents}
    known = acquainted(
        replace(
            agent,
            raises=_raises(agent, pipeline, team),
            side_builds=sides[agent.side] if agent.side else (),
        )
        for agent in agents
    )
    stages = tuple(replace(stage, declared=known[stage.agent]) for stage in pipeline.stages)
    size = sum(len(json.dumps(asdict(known[stage.agent]))) for stage in stages)
    if size > AGENTS_BYTES:
        raise BrokenRule(
            "agents",
            f"in {len(stages)} stages they have {size} bytes, at most {AGENTS_BYTES}: "
            "shorten their instructions",
        )
    return replace(pipeline, stages=stages)


# --- one declaration ------------------------------------------------------------------------------


def _name(table: Table) -> str:
    name = table.string("name")
    if not is_agent_name(name):
        table.refuse("name", f"{name!r} {AGENT_NAME}")
    if name in TEAM:
        table.refuse("name", f"{name} is one of the eleven, who are always there: choose another")
    if name in _NOT_AGENTS:
        table.refuse("name", f"{name!r} stands for something else: choose another")
    return name


def _declared(table: Table, name: str, templates: Collection[str]) -> Declared:
    table.allow(_KEYS)
    instructions = _instructions(table)
    role = _role(table, name, instructions, templates)
    side = _side(table, role)
    agent = Agent(
        name=name,
        role=role,
        token=token_of(role, side),
        side=side,
        builds=_names(table, "builds"),
        instructions=instructions,
    )
    flag = _flag(table, "flag", table.string("flag")) if "flag" in table.values else None
    if flag in FLAGS:
        table.refuse("flag", f"{flag} is the flag of one of the eleven: choose another")
    raises = (
        tuple(_flag(table, "raises", each) for each in dict.fromkeys(table.strings("raises")))
        if "raises" in table.values
        else None
    )
    return Declared(agent, flag, raises)


def _instructions(table: Table) -> str:
    if "instructions" not in table.values:
        return ""
    text = table.string("instructions").strip()
    if len(text) > INSTRUCTIONS_LENGTH:
        table.refuse("instructions", f"{len(text)} characters, at most {INSTRUCTIONS_LENGTH}")
    return text


def _role(table: Table, name: str, instructions: str, templates: Collection[str]) -> str:
    role = table.string("role")
    if role in tuple(Role):
        return role
    if not is_agent_name(role):
        table.refuse("role", f"{role!r} {AGENT_NAME}")
    if not (instructions or {role, name} & (set(templates) - {"stage", "other"})):
        known = ", ".join(Role)
        table.refuse(
            "role",
            f"unknown role {role!r}; known are {known}; a new one needs instructions here, or the "
            f"template prompts/{role}.md",
        )
    return role


def _side(table: Table, role: str) -> str | None:
    if "side" not in table.values:
        if role in _OF_A_SIDE:
            table.refuse("side", f"is missing: an agent of role {role} works on a side")
        return None
    side = table.string("side")
    if not is_build_name(side):
        table.refuse("side", f"{side!r} must be lower-case letters, digits and hyphens")
    return side


def _names(table: Table, key: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(table.strings(key, ())))
    for name in names:
        if not is_build_name(name):
            table.refuse(key, f"{name!r} must be lower-case letters, digits and hyphens")
    return names


def _flag(table: Table, key: str, flag: str) -> str:
    if not _FLAG.fullmatch(flag):
        table.refuse(key, f"{flag!r} must be needs_ and lower-case letters, digits and underscores")
    return flag


def _check_shared(team: Team, key: str, claims: Mapping[str, Sequence[str]]) -> None:
    claimed: dict[str, str] = {}
    for name in team:
        for claim in claims[name]:
            if claim in claimed:
                raise BrokenRule(f"{agent_key(name)}.{key}", f"{claim} is {claimed[claim]}'s")
            claimed[claim] = name


# --- what follows from the others -----------------------------------------------------------------


def _agent(name: str, team: Team) -> Agent:
    return team[name].agent if name in team else TEAM[name]


def _with_builds(agent: Agent, pipeline: Pipeline, team: Team) -> Agent:
    """One of the eleven answers for the builds of its stages that nobody is declared to."""
    if agent.name in team:
        return agent
    declared = {build for each in team.values() for build in each.agent.builds}
    own = (s for s in pipeline.stages if s.agent == agent.name)
    builds = dict.fromkeys(build for s in own for build in s.builds if build not in declared)
    return replace(agent, builds=tuple(builds))


def _raises(agent: Agent, pipeline: Pipeline, team: Team) -> tuple[str, ...]:
    """What its file says, else all flags of the plan for a tester, and none for others."""
    said = team[agent.name].raises if agent.name in team else None
    if said is not None:
        return said
    return pipeline.flags if agent.role == Role.QA else ()


def _side_builds(side: str | None, pipeline: Pipeline, agents: Sequence[Agent]) -> Iterator[str]:
    """The builds that its implementers answer for, or are followed by."""
    names = {each.name for each in agents if each.side == side and each.role == Role.IMPLEMENTATION}
    answered = {build for each in agents if each.name in names for build in each.builds}
    followed = {build for s in pipeline.stages if s.agent in names for build in s.builds}
    yield from (build for build in pipeline.builds if build in answered | followed)


def _check_stages(pipeline: Pipeline, team: Team) -> None:
    here = {stage.agent for stage in pipeline.stages}
    for name in team:
        if name not in here:
            raise BrokenRule(agent_key(name), "has no stage")


def _check_sides(pipeline: Pipeline, agents: Sequence[Agent]) -> None:
    sides = dict.fromkeys(each.side for each in agents if each.role == Role.IMPLEMENTATION)
    for agent in agents:
        if agent.side and agent.side not in sides:
            known = ", ".join(filter(None, sides)) or "none"
            reason = f"nobody implements the side '{agent.side}' of {agent.name}; sides: {known}"
            stage = next(s for s in pipeline.stages if s.agent == agent.name)
            is_own = agent.name not in TEAM
            raise BrokenRule(
                f"{agent_key(agent.name)}.side" if is_own else stage_key(stage.name), reason
            )


def _check_builds(pipeline: Pipeline, agents: Sequence[Agent]) -> None:
    answered = {build: agent.name for agent in agents for build in agent.builds}
    for stage in pipeline.stages:
        for build in stage.builds:
            if build not in answered:
                reason = f"nobody answers for {build!r}: name it in the builds of an agent"
                raise BrokenRule(f"{stage_key(stage.name)}.builds", reason)
    for build, name in answered.items():
        if build not in pipeline.builds:
            raise BrokenRule(f"{agent_key(name)}.builds", f"{build!r} is verified after no stage")


def _check_flags(pipeline: Pipeline, team: Team) -> None:
    for name, each in team.items():
        for key, flags in (("flag", (each.flag,)), ("raises", each.raises or ())):
            for flag in filter(None, flags):
                if flag not in pipeline.flags:
                    raise BrokenRule(f"{agent_key(name)}.{key}", f"no stage waits for {flag}")


def flags_of(team: Team) -> tuple[str, ...]:
    """Every flag that a stage may wait for."""
    return (*FLAGS, *(each.flag for each in team.values() if each.flag))
