"""Sasha's runbook: symptom, diagnosis, bounded action, verification, escalation.

Verification is the same for all (`is_over`): a fresh look no longer finds the symptom.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from pipeline.model.holds import Symptom, SymptomKind

CHECK_INTERVAL = timedelta(minutes=5)
"""How often Sasha looks although nobody is paused: a disk, for example, fills slowly."""


@dataclass(frozen=True)
class Remedy:
    """How one kind of symptom is repaired.

    `attempts` bounds the action; `settles` is how long its effect may take to show;
    `escalates` says whether a P0 is opened when every attempt has failed.
    """

    diagnosis: str
    action: str
    settles: timedelta
    attempts: int = 3
    escalates: bool = True
    again: timedelta = timedelta(hours=1)
    """When the repair is tried again, if all attempts have failed and nothing is escalated."""


@dataclass(frozen=True)
class Finding:
    """A symptom with its remedy: a workflow keeps to the remedy that it was given."""

    symptom: Symptom
    remedy: Remedy


REMEDIES: Mapping[SymptomKind, Remedy] = {
    SymptomKind.NATS_DOWN: Remedy(
        "The connection to NATS is lost.",
        "Restart NATS: the embedded one, or by AGOG_RESTART_NATS.",
        timedelta(seconds=30),
    ),
    SymptomKind.STREAMS_AMISS: Remedy(
        "A stream is missing or has other limits.",
        "Create the stream, or give it its limits back.",
        timedelta(seconds=5),
    ),
    SymptomKind.DATABASE_DOWN: Remedy(
        "The SDLC database cannot be reached.",
        "Restart the database: the embedded one, or by AGOG_RESTART_DATABASE.",
        timedelta(seconds=30),
    ),
    SymptomKind.MIGRATIONS_BEHIND: Remedy(
        "The SDLC database has an older schema than this program.",
        "Run the migrations that are missing.",
        timedelta(seconds=5),
    ),
    SymptomKind.PROGRAM_BEHIND: Remedy(
        "The SDLC database has a newer schema than this program.",
        "Nothing: a worker that is to be updated must not stop those that were.",
        timedelta(seconds=5),
        attempts=1,
        escalates=False,
    ),
    SymptomKind.ROW_WITHOUT_WORKFLOW: Remedy(
        "A requirement's row is open, and no workflow works on it.",
        "Start the workflow if it never was, or close the row.",
        timedelta(seconds=5),
        escalates=False,
    ),
    SymptomKind.DISK_LOW: Remedy(
        "The disk of the state directory is nearly full.",
        "Remove clones and run directories of requirements that have ended; nothing else.",
        # What fills a disk often goes away by itself; a P0 would pause every host for this one.
        timedelta(seconds=30),
    ),
    SymptomKind.HOST_OVERLOADED: Remedy(
        "The memory of the host is short.",
        "Lower the host's slots by half, never below two; raise them again when it is over.",
        timedelta(seconds=30),
        escalates=False,
        again=timedelta(minutes=10),
    ),
    SymptomKind.RUN_NEAR_DEADLINE: Remedy(
        "A run is near its deadline, and its agent lives and makes progress.",
        "Extend the deadline by half of what the stage was given, twice at most.",
        timedelta(seconds=5),
        attempts=1,
        escalates=False,
        again=timedelta(minutes=1),  # by the next scheduled check: in an hour the run is over
    ),
    SymptomKind.ORPHAN: Remedy(
        "A process or clone has outlived what it was for.",
        "End the process, remove what it left; work that no ref holds yet is kept first.",
        timedelta(seconds=5),
        escalates=False,
    ),
    SymptomKind.WORKFLOW_FAULT: Remedy(
        "A step of a workflow failed in a way that nobody foresaw, or for too long.",
        "Nothing: the workflow goes on without it, tries it again later, or asks a human.",
        timedelta(seconds=5),
        attempts=1,
        escalates=False,
    ),
}


def is_over(symptom: Symptom, found: Iterable[Symptom], blind: tuple[str, str]) -> bool | None:
    """Whether a look that has `found` this says that the symptom is gone.

    `blind` is the key of the symptom that nobody could look; None then: nobody knows.
    """
    keys = {each.key for each in found}
    if symptom.key in keys:
        return False
    return None if blind in keys else True


def findings(symptoms: Iterable[Symptom]) -> tuple[Finding, ...]:
    """Each symptom with its remedy."""
    return tuple(Finding(symptom, REMEDIES[symptom.kind]) for symptom in symptoms)
