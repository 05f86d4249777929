"""Sasha's runbook: alert, diagnosis, bounded action, verification, escalation.

Verification is the same for all (`is_over`): a fresh look no longer finds the alert.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pipeline.model.holds import Alert, AlertKind

CHECK_INTERVAL = timedelta(minutes=5)
"""How often Sasha looks although nobody is paused: a disk, for example, fills slowly."""


@dataclass(frozen=True)
class RunbookEntry:
    """How one kind of alert is repaired.

    `attempts` bounds the action; `shows_within` is how long its effect may take to show;
    `escalates` says whether a P0 is opened when every attempt has failed.
    """

    diagnosis: str
    action: str
    shows_within: timedelta
    attempts: int = 3
    escalates: bool = True
    again: timedelta = timedelta(hours=1)
    """When the repair is tried again, if all attempts have failed and nothing is escalated."""


@dataclass(frozen=True)
class Finding:
    """An alert with its remedy: a workflow keeps to the remedy that it was given."""

    alert: Alert
    remedy: RunbookEntry


RUNBOOK: Mapping[AlertKind, RunbookEntry] = {
    AlertKind.NATS_DOWN: RunbookEntry(
        "The connection to NATS is lost.",
        "Restart NATS: the embedded one, or by AGOG_RESTART_NATS.",
        timedelta(seconds=30),
    ),
    AlertKind.STREAMS_AMISS: RunbookEntry(
        "A stream is missing or has other limits.",
        "Create the stream, or give it its limits back.",
        timedelta(seconds=5),
    ),
    AlertKind.DATABASE_DOWN: RunbookEntry(
        "The SDLC database cannot be reached.",
        "Restart the database: the embedded one, or by AGOG_RESTART_DATABASE.",
        timedelta(seconds=30),
    ),
    AlertKind.MIGRATIONS_BEHIND: RunbookEntry(
        "The SDLC database has an older schema than this program.",
        "Run the migrations that are missing.",
        timedelta(seconds=5),
    ),
    AlertKind.PROGRAM_BEHIND: RunbookEntry(
        "The SDLC database has a newer schema than this program.",
        "Nothing: a worker that is to be updated must not stop those that were.",
        timedelta(seconds=5),
        attempts=1,
        escalates=False,
    ),
    AlertKind.ROW_WITHOUT_WORKFLOW: RunbookEntry(
        "A requirement's row is open, and no workflow works on it.",
        "Start the workflow if it never was, or close the row.",
        timedelta(seconds=5),
        escalates=False,
    ),
    AlertKind.DISK_LOW: RunbookEntry(
        "The disk of the state directory is nearly full.",
        "Remove clones and run directories of requirements that have ended; nothing else.",
        # What fills a disk often goes away by itself; a P0 would pause every host for this one.
        timedelta(seconds=30),
    ),
    AlertKind.HOST_OVERLOADED: RunbookEntry(
        "The memory of the host is short.",
        "Lower the host's slots by half, never below two; raise them again when it is over.",
        timedelta(seconds=30),
        escalates=False,
        again=timedelta(minutes=10),
    ),
    AlertKind.RUN_NEAR_DEADLINE: RunbookEntry(
        "A run is near its deadline, and its agent lives and makes progress.",
        "Extend the deadline by half of what the stage was given, twice at most.",
        timedelta(seconds=5),
        attempts=1,
        escalates=False,
        again=timedelta(minutes=1),  # by the next scheduled check: in an hour the run is over
    ),
    AlertKind.ORPHAN: RunbookEntry(
        "A process or clone has outlived what it was for.",
        "End the process, remove what it left; work that no ref holds yet is kept first.",
        timedelta(seconds=5),
        escalates=False,
    ),
    AlertKind.WORKFLOW_FAULT: RunbookEntry(
        "A step of a workflow failed in a way that nobody foresaw, or for too long.",
        "Nothing: the workflow continues without it, tries it again later, or asks a human.",
        timedelta(seconds=5),
        attempts=1,
        escalates=False,
    ),
}


def is_over(alert: Alert, found: Iterable[Alert], blind: tuple[str, str]) -> bool | None:
    """Whether a look that has `found` this says that the alert is gone.

    `blind` is the key of the alert that nobody could look; None then: nobody knows.
    """
    keys = {each.key for each in found}
    if alert.key in keys:
        return False
    return None if blind in keys else True


def findings(alerts: Iterable[Alert]) -> tuple[Finding, ...]:
    """Each alert with its remedy."""
    return tuple(Finding(alert, RUNBOOK[alert.kind]) for alert in alerts)
