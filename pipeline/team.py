"""The eleven agents: what each one is for, which side it works on, what it must answer.

The only place that knows names, roles, sides and subject tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


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
    """The half of the project that an agent works on."""

    BACKEND = "backend"
    FRONTEND = "frontend"


@dataclass(frozen=True)
class Agent:
    """One member of the team; `token` is its part of the deliverable subject."""

    name: str
    role: Role
    token: str
    side: Side | None = None

    @property
    def raises_flags(self) -> bool:
        """Whether this agent's notice may ask for a specialist."""
        return self.role is Role.QA


RUNS_PROJECT = frozenset(
    {Role.IMPLEMENTATION, Role.QA, Role.SPECIALIST, Role.STATISTICS, Role.DEVOPS}
)
"""Roles that build, test, measure or deploy: their clones are prepared as those of builds are.

The others read and write, and would wait for what they do not use.
"""

FLAGS = ("needs_todd", "needs_vic")
"""Flags that a notice may raise; each is named after the specialist it asks for."""

TEAM: Mapping[str, Agent] = MappingProxyType(
    {
        agent.name: agent
        for agent in (
            Agent("cynthia", Role.RESEARCH, "research"),
            Agent("sylvia", Role.CRITIQUE, "critique"),
            Agent("roy", Role.IMPLEMENTATION, "backend", Side.BACKEND),
            Agent("jen", Role.IMPLEMENTATION, "frontend", Side.FRONTEND),
            Agent("billy", Role.QA, "qa-backend", Side.BACKEND),
            Agent("liz", Role.QA, "qa-frontend", Side.FRONTEND),
            Agent("todd", Role.SPECIALIST, "qa-performance"),
            Agent("vic", Role.SPECIALIST, "qa-security"),
            Agent("priya", Role.STATISTICS, "statistics"),
            Agent("berry", Role.DEVOPS, "devops"),
            Agent("tim", Role.DOCUMENTATION, "documentation"),
        )
    }
)

OWNERS: Mapping[Side, str] = MappingProxyType(
    {
        agent.side: agent.name
        for agent in TEAM.values()
        if agent.role is Role.IMPLEMENTATION and agent.side
    }
)
"""Who owns a red build or a failed test of a side."""
