"""The eleven agents: what each one is for, which side it works on, what it must answer.

The only place that knows their names, roles, sides and subject tokens. A pipeline may declare
others beside them (`pipeline/plan_team.py`).
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

AGENT_NAME = "must be lower-case letters, digits and hyphens, beginning with a letter, 30 at most"
"""What is wrong with a name that is none: names are parts of subjects, branches and addresses."""

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_NAME_LENGTH = 30


def is_agent_name(name: str) -> bool:
    """Whether an agent may be called that."""
    return _NAME.fullmatch(name) is not None and len(name) <= _NAME_LENGTH


class Role(StrEnum):
    """What an agent does; it fixes which verdict its notice must carry."""

    RESEARCH = "research"
    CRITIQUE = "critique"
    IMPLEMENTATION = "implementation"
    QA = "qa"
    SPECIALIST = "specialist"
    STATISTICS = "statistics"
    DEVOPS = "devops"
    DOCUMENTATION = "documentation"


class Side(StrEnum):
    """The sides that the eleven work on; a pipeline may name others."""

    BACKEND = "backend"
    FRONTEND = "frontend"


JUDGES = frozenset({Role.QA, Role.SPECIALIST, Role.STATISTICS})
"""Roles whose verdicts are on what implementers did."""

RUNS_PROJECT = frozenset(
    {Role.IMPLEMENTATION, Role.QA, Role.SPECIALIST, Role.STATISTICS, Role.DEVOPS}
)
"""Roles that build, test, measure or deploy: their clones are prepared as those of builds are.

The others read and write, and would wait for what they do not use.
"""


@dataclass(frozen=True)
class Agent:
    """One member of a team; what follows from the others of its team is spelt out.

    `role` is a `Role`, or one that a pipeline adds: its agent gives no verdict.
    """

    name: str
    role: str
    token: str
    """Its part of the subject of its deliverables."""
    side: str | None = None
    builds: tuple[str, ...] = ()
    """Builds that it is declared to answer for, whichever stage they are verified after."""
    raises: tuple[str, ...] = ()
    """Flags that its notice may raise."""
    instructions: str = ""
    """What the pipeline tells it beside the template of its role."""
    owners: tuple[tuple[str, str], ...] = ()
    """Who gets what it finds red, as (side, name): implementers; of a critique, research."""
    beside: tuple[str, ...] = ()
    """Others who implement its own side."""
    side_builds: tuple[str, ...] = ()
    """The builds of its side."""

    @property
    def runs_project(self) -> bool:
        """Whether it builds, tests, measures or deploys; one of an added role, if it has a side."""
        return self.role in RUNS_PROJECT or self.side is not None

    @property
    def owner_words(self) -> tuple[str, ...]:
        """How its notice may name the owner of a failure; empty where there is no choice.

        A side, if there are several, and an implementer by name who is not alone on a side.
        """
        if len(self.owners) < 2:
            return ()
        at_work = Counter(side for side, _ in self.owners)
        sides = tuple(at_work) if len(at_work) > 1 else ()
        return (*sides, *(name for side, name in self.owners if at_work[side] > 1))


def token_of(role: str, side: str | None) -> str:
    """The part of an agent's subject that follows from what it does."""
    if side and role == Role.IMPLEMENTATION:
        return side
    return f"qa-{side}" if side and role == Role.QA else role


def acquainted(agents: Iterable[Agent]) -> Mapping[str, Agent]:
    """The agents of one team by name, each with what follows from the others."""
    team = tuple(agents)
    implementers = [each for each in team if each.role == Role.IMPLEMENTATION]
    research = tuple(("", each.name) for each in team if each.role == Role.RESEARCH)

    def owners(agent: Agent) -> tuple[tuple[str, str], ...]:
        if agent.role == Role.CRITIQUE:
            return research
        if agent.role not in JUDGES:
            return ()
        theirs = (each for each in implementers if agent.side in (None, each.side))
        return tuple((each.side or "", each.name) for each in theirs)

    def beside(agent: Agent) -> tuple[str, ...]:
        if agent.role != Role.IMPLEMENTATION:
            return ()
        same = (each for each in implementers if each.side == agent.side)
        return tuple(each.name for each in same if each.name != agent.name)

    return MappingProxyType(
        {each.name: replace(each, owners=owners(each), beside=beside(each)) for each in team}
    )


FLAGS = ("needs_todd", "needs_vic")
"""Flags that testers of the eleven may raise; each is named after the specialist it asks for."""


def _on(side: Side, name: str, role: Role, raises: tuple[str, ...] = ()) -> Agent:
    return Agent(name, role, token_of(role, side), side, raises=raises, side_builds=(side,))


TEAM: Mapping[str, Agent] = acquainted(
    (
        Agent("cynthia", Role.RESEARCH, "research"),
        Agent("sylvia", Role.CRITIQUE, "critique"),
        _on(Side.BACKEND, "roy", Role.IMPLEMENTATION),
        _on(Side.FRONTEND, "jen", Role.IMPLEMENTATION),
        _on(Side.BACKEND, "billy", Role.QA, FLAGS),
        _on(Side.FRONTEND, "liz", Role.QA, FLAGS),
        Agent("todd", Role.SPECIALIST, "qa-performance"),
        Agent("vic", Role.SPECIALIST, "qa-security"),
        Agent("priya", Role.STATISTICS, "statistics"),
        Agent("berry", Role.DEVOPS, "devops"),
        Agent("tim", Role.DOCUMENTATION, "documentation"),
    )
)
