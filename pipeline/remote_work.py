"""Work for agents on other machines: its subjects, and what a deliverable must name.

A work item goes out on the agent's work subject. Everything that its agent host sends comes below
the agent's own deliverable prefix: answers, claims and the pieces of files.
"""

from dataclasses import dataclass
from enum import StrEnum

WORK_PREFIX = "agog.agent.work"
ANSWER_PREFIX = "agog.agent.deliverables"
WORK_STREAM, ANSWER_STREAM = "agog_agent_work", "agog_agent_deliverables"

JUDGED_SUBJECTS = f"{ANSWER_PREFIX}.*.*"
"""Answers of all agents, and neither claims nor files."""


def work_subject(agent: str) -> str:
    """Where the agent's work items go; its consumer has the agent's name."""
    return f"{WORK_PREFIX}.{agent}"


def work_file(agent: str, item: str, piece: int) -> str:
    """Where a piece of a work item's files goes."""
    return f"{WORK_PREFIX}.{agent}.files.{item}.{piece}"


def answer_subject(agent: str, number: str) -> str:
    """Where the agent's deliverables for a requirement go."""
    return f"{ANSWER_PREFIX}.{agent}.{number}"


def answer_file(agent: str, item: str, piece: int) -> str:
    """Where a piece of what the agent has made goes."""
    return f"{ANSWER_PREFIX}.{agent}.files.{item}.{piece}"


def claim_subject(agent: str, item: str) -> str:
    """Where an agent host claims a work item: the first to do so starts it."""
    return f"{ANSWER_PREFIX}.{agent}.claims.{item}"


# --- deliverables ---------------------------------------------------------------------------------


class Refusal(StrEnum):
    """Why a deliverable is not taken."""

    UNREADABLE = "unreadable"
    WRONG_AGENT = "wrong agent"
    WRONG_REQUIREMENT = "wrong requirement"
    STALE = "stale"
    REPEATED = "repeated"
    BROKEN_FILES = "broken files"


@dataclass(frozen=True)
class Correlation:
    """What ties a deliverable to a run: an order has one, and a deliverable names one.

    `run_id` is REQ/workflow run/stage/attempt.
    """

    run_id: str
    agent: str
    number: str


def mismatch(ordered: Correlation, named: Correlation) -> Refusal | None:
    """Why a deliverable that names the run of an order does not answer it; None if it does.

    The run decides what it is about: agent and requirement are checked against it.
    """
    if named.agent != ordered.agent:
        return Refusal.WRONG_AGENT
    return Refusal.WRONG_REQUIREMENT if named.number != ordered.number else None


def subject_mismatch(subject: str, named: Correlation) -> Refusal | None:
    """Why a deliverable that came on that subject cannot be what it says; None if it can.

    The server lets an agent publish on its own subjects alone, so the subject is who it is.
    """
    agent, number = subject.removeprefix(f"{ANSWER_PREFIX}.").split(".", 1)
    return mismatch(Correlation(named.run_id, agent, number), named)


@dataclass(frozen=True)
class Received:
    """A deliverable as it came: what it names is None where it cannot be read.

    `key` is the same for every delivery of that one message, and another one for each message.
    """

    key: str
    subject: str
    named: Correlation | None


@dataclass(frozen=True)
class OrderedRun:
    """What is known of the run that a deliverable names.

    `has_failed` says that it ended without a deliverable; `received` is the key of the one that it
    got, if it did.
    """

    correlation: Correlation
    has_failed: bool
    received: str = ""


def judged(received: Received, run: OrderedRun | None) -> Refusal | None:
    """Why a deliverable is refused; None if it is the one that its run waits for, or got.

    The first one that fits is taken, as whoever waits for it takes it.
    """
    if received.named is None:
        return Refusal.UNREADABLE
    if wrong := subject_mismatch(received.subject, received.named):
        return wrong
    if run is None:
        return Refusal.STALE
    if wrong := mismatch(run.correlation, received.named):
        return wrong
    if run.received not in ("", received.key):
        return Refusal.REPEATED
    return Refusal.STALE if run.has_failed and not run.received else None
