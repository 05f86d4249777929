"""What an accepted notice means for its stage, and what a green one looks like."""

from collections.abc import Mapping
from types import MappingProxyType

from pipeline.team import FLAGS, TEAM, Role

_GREEN_ANSWERS: Mapping[Role, Mapping[str, object]] = MappingProxyType(
    {
        Role.CRITIQUE: {"critique_verdict": "APPROVED"},
        Role.QA: {"test_result": "PASS", **dict.fromkeys(FLAGS, False)},
        Role.SPECIALIST: {"test_result": "PASS"},
        Role.STATISTICS: {"overall": "PASS"},
    }
)


def green_notice(agent: str, number: str) -> dict[str, object]:
    """The notice with which that agent reports success, its role's verdict included.

    Raises: KeyError for an unknown agent.
    """
    role = TEAM[agent].role
    return {
        "agent": agent,
        "req_number": number,
        "status": "COMPLETE",
        "summary": f"{agent} completed {role}.",
        **_GREEN_ANSWERS.get(role, {}),
    }
