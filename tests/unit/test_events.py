from datetime import UTC, datetime, timedelta, timezone

import pytest

from pipeline.events import (
    STREAMS,
    EventType,
    deliverable,
    deliverable_subject,
    event,
    timestamp,
)
from pipeline.team import TEAM

NOON = datetime(2026, 1, 2, 12, 0, 0, 345_678, tzinfo=UTC)
TOKENS = {
    "cynthia": "research",
    "sylvia": "critique",
    "roy": "backend",
    "jen": "frontend",
    "billy": "qa-backend",
    "liz": "qa-frontend",
    "todd": "qa-performance",
    "vic": "qa-security",
    "priya": "statistics",
    "berry": "devops",
    "tim": "documentation",
}


def streams_of(subject: str) -> list[str]:
    prefixes = ((stream.name, s.removesuffix(">")) for stream in STREAMS for s in stream.subjects)
    return [name for name, prefix in prefixes if subject.startswith(prefix)]


def test_the_team_is_the_eleven() -> None:
    assert {agent.name: agent.token for agent in TEAM.values()} == TOKENS


@pytest.mark.parametrize("agent", TOKENS)
def test_each_agents_deliverable_has_one_subject_in_one_stream(agent: str) -> None:
    subject = deliverable_subject(TEAM[agent], "REQ-1")
    sent = deliverable("REQ-1/run/Stage/1", TEAM[agent], "REQ-1", NOON, {"status": "COMPLETE"})

    assert subject == f"agog.deliverables.{agent}.{TOKENS[agent]}.REQ-1"
    assert sent.subject == subject
    assert sent.event_id == sent.payload["eventId"] == "REQ-1/run/Stage/1:deliverable:1"
    assert sent.payload["status"] == "COMPLETE"
    assert streams_of(subject) == ["agog_deliverables"]


@pytest.mark.parametrize("event_type", [t for t in EventType if t is not EventType.DELIVERABLE])
def test_each_event_has_its_envelope_and_lies_in_one_stream(event_type: EventType) -> None:
    sent = event("REQ-1/run", event_type, "REQ-1", NOON, occurrence=2, stagesCompleted=3)

    assert sent.subject == f"agog.orchestration.events.{event_type}"
    assert streams_of(sent.subject) == ["agog_orchestration_events"]
    assert sent.payload == {
        "eventType": event_type.value,
        "reqNumber": "REQ-1",
        "timestamp": "2026-01-02T12:00:00.345Z",
        "eventId": f"REQ-1/run:{event_type}:2",
        "stagesCompleted": 3,
    }


def test_a_timestamp_is_in_utc_and_never_naive() -> None:
    there = NOON.astimezone(timezone(timedelta(hours=-7)))

    assert timestamp(there) == timestamp(NOON) == "2026-01-02T12:00:00.345Z"
    with pytest.raises(ValueError, match="aware"):
        timestamp(NOON.replace(tzinfo=None))
