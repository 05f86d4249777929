"""Events, deliverables and their subjects: the only table of what goes out on NATS.

The event row commits with the state change that it tells of; `eventId` is also `Nats-Msg-Id`, so a
repeat is dropped by JetStream and a lawful second occurrence is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.remote_work import ANSWER_PREFIX, ANSWER_STREAM, WORK_PREFIX, WORK_STREAM
from pipeline.team import Agent

EVENT_PREFIX = "agog.orchestration.events"
DELIVERABLE_PREFIX = "agog.deliverables"
ESCALATION_PREFIX = "agog.escalations"
RULE_QUESTIONS = "agog.agent.requests.sasha-rules"
RULE_ANSWERS = "agog.agent.responses.sasha-rules"
EXTENSION_REQUESTS = "agog.workflow.timeout.extend"
EXTENSION_ANSWERS = "agog.workflow.timeout.extended"
"""On core NATS and in no stream: a stream would answer the asker itself."""
RETENTION = timedelta(days=30)
"""Age limit and duplicate window of every stream (design, section 6)."""


@dataclass(frozen=True)
class Stream:
    """A JetStream stream: no message limit, discards new, keeps `RETENTION`.

    The latest message of a subject can be read from one that `is_direct`, without a consumer.
    """

    name: str
    subjects: tuple[str, ...]
    is_direct: bool = False


STREAMS = (
    Stream("agog_orchestration_events", (f"{EVENT_PREFIX}.>",)),
    Stream("agog_deliverables", (f"{DELIVERABLE_PREFIX}.>",)),
    Stream("agog_escalations", (f"{ESCALATION_PREFIX}.>",)),
    Stream(WORK_STREAM, (f"{WORK_PREFIX}.>",), is_direct=True),
    # Not among the deliverables that were accepted: a repeat is dropped by its id, which whoever
    # may publish into a stream may use before its owner does.
    Stream(ANSWER_STREAM, (f"{ANSWER_PREFIX}.>",), is_direct=True),
)


class EventType(StrEnum):
    """Every type of event, as it stands in `eventType` and in the subject."""

    WORKFLOW_STARTED = "workflow.started"
    """A host has taken it."""
    WORKFLOW_HELD = "workflow.held"
    """It waits at a checkpoint; `heldBy` and `reason` say for what."""
    WORKFLOW_RESUMED = "workflow.resumed"
    """It waits no longer."""
    WORKFLOW_BLOCKED = "workflow.blocked"
    """A round has ended red: fixes or a human come next."""
    WORKFLOW_ESCALATED = "workflow.escalated"
    """A human is asked."""
    WORKFLOW_COMPLETED = "workflow.completed"
    """It is DELIVERED."""
    WORKFLOW_FAILED = "workflow.failed"
    """It is FAILED, for good."""
    WORKFLOW_CANCELLED = "workflow.cancelled"
    """It is CANCELLED."""
    WORKFLOW_PERFORMANCE = "workflow.performance"
    """What running in parallel saved, in hours and percent, and what it cost."""
    WORKFLOW_MOVED = "workflow.moved"
    """Its host is lost, and another one continues it."""
    STAGE_STARTED = "stage.started"
    """It has a slot and has passed its gates; its agent starts next."""
    STAGE_PREPARING = "stage.preparing"
    """The clone of its agent is being prepared; that is not the agent's time."""
    STAGE_PREPARED = "stage.prepared"
    """The clone is ready, or what it needs could not be installed."""
    STAGE_RESUMED = "stage.resumed"
    """The session of its program goes on after it was cut off; `resumes` counts how often."""
    STAGE_COMPLETED = "stage.completed"
    """Its work is merged, its verdict recorded."""
    STAGE_SKIPPED = "stage.skipped"
    """Nobody asked for it."""
    STAGE_FAILED = "stage.failed"
    """It is red; `action` says whether it is tried again at once."""
    STAGE_BLOCKED = "stage.blocked"
    """Its agent cannot go on without an answer."""
    STAGE_TIMEOUT = "stage.timeout"
    """Its agent was ended at its deadline."""
    BUILD_STARTED = "build.started"
    """It has passed its gates. What repeats a build after a crash says so no second time."""
    BUILD_PASSED = "build.passed"
    """Green, on the commit that it names."""
    BUILD_FAILED = "build.failed"
    """Red, with the first errors and where the log is."""
    GROUP_COMPLETED = "group.completed"
    """The last stage of a group has ended."""
    DEPLOYED_UNDELIVERED = "workflow.deployed_undelivered"
    """A deliver was refused after a deployment had already gone out."""
    WORKFLOW_UNCLEANED = "workflow.uncleaned"
    """It ended, and processes or clones of it may be left on its host, which continues trying."""
    WORKFLOW_CLEANED = "workflow.cleaned"
    """What it had left behind is cleaned up."""
    ACCOUNT_LIMITED = "account.limited"
    """A program's account cannot work now: nothing starts with it until then."""
    ACCOUNT_RESUMED = "account.resumed"
    """It works again, or a human has said that it is to be tried."""
    BUDGET_WARNING = "budget.warning"
    """A budget is nearly spent."""
    BUDGET_REACHED = "budget.reached"
    """A budget is spent: nothing starts that counts in it."""
    BUDGET_RAISED = "budget.raised"
    """A human has raised it."""
    DELIVERABLE_RECEIVED = "deliverable.received"
    """A remote agent has sent what its run waits for; the stage's own end says what it is worth."""
    DELIVERABLE_REFUSED = "deliverable.refused"
    """A remote agent has sent what no run waits for; `reason` says why that is."""
    DELIVERABLE = "deliverable"
    """Not an orchestration event: an agent's notice on its own subject."""
    ESCALATION = "escalation"
    """A question to a human, on the requirement's escalation subject, beside `escalated`."""
    ESCALATION_REMINDER = "escalation.reminder"
    """The question is still open."""
    ACCOUNT_ESCALATION = "account.escalation"
    """A human must see to a program's account, asked once for everybody who works with it."""
    BUDGET_ESCALATION = "budget.escalation"
    """A human is asked to raise a budget that is spent, once for everybody who is held by it."""


@dataclass(frozen=True)
class Event:
    """One message; `payload` is what goes over the wire, camelCase keys."""

    event_id: str
    type: EventType
    number: str
    subject: str
    payload: Mapping[str, object]


def event(
    scope: str,
    event_type: EventType,
    number: str,
    at: datetime,
    *,
    occurrence: int = 1,
    **fields: object,
) -> Event:
    """An orchestration event.

    `scope` is the run id or the execution's key; with type and occurrence it names the event.
    """
    name = event_id(scope, event_type, occurrence)
    payload = _payload(name, event_type, number, at, fields)
    return Event(name, event_type, number, f"{EVENT_PREFIX}.{event_type}", payload)


def event_id(scope: str, event_type: EventType, occurrence: int = 1) -> str:
    """The id of the event of that type which the scope tells for the so-manieth time."""
    return f"{scope}:{event_type}:{occurrence}"


def deliverable(
    run_id: str, agent: Agent, number: str, at: datetime, notice: Mapping[str, object]
) -> Event:
    """An agent's accepted notice, published on its deliverable subject like an event."""
    event_id = f"{run_id}:{EventType.DELIVERABLE}:1"
    payload = _payload(event_id, EventType.DELIVERABLE, number, at, notice)
    subject = deliverable_subject(agent, number)
    return Event(event_id, EventType.DELIVERABLE, number, subject, payload)


def escalation_event(
    event_type: EventType, scope: str, number: str, at: datetime, fields: Mapping[str, object]
) -> Event:
    """A question to a human; its own number and that of its reminder name the occurrence."""
    occurrence = ".".join(str(fields[key]) for key in ("escalation", "reminder") if key in fields)
    event_id = f"{scope}:{event_type}:{occurrence}"
    payload = _payload(event_id, event_type, number, at, fields)
    own = event_type is not EventType.WORKFLOW_ESCALATED
    subject = f"{ESCALATION_PREFIX}.{number}" if own else f"{EVENT_PREFIX}.{event_type}"
    return Event(event_id, event_type, number, subject, payload)


def deliverable_subject(agent: Agent, number: str) -> str:
    """`agog.deliverables.<agent>.<token>.<REQ>`."""
    return f"{DELIVERABLE_PREFIX}.{agent.name}.{agent.token}.{number}"


def _payload(
    event_id: str, kind: EventType, number: str, at: datetime, fields: Mapping[str, object]
) -> Mapping[str, object]:
    return {
        "eventType": str(kind),
        "reqNumber": number,
        "timestamp": timestamp(at),
        "eventId": event_id,
        **fields,
    }


def timestamp(at: datetime) -> str:
    """ISO-8601 in UTC, milliseconds, `Z`. Raises: ValueError for a naive time."""
    if at.tzinfo is None:
        raise ValueError("an event needs an aware time")
    return (at - (at.utcoffset() or timedelta())).replace(tzinfo=None).isoformat(
        timespec="milliseconds"
    ) + "Z"
