"""The files of a run that supervisor and worker both know, and those that both write.

No agent is told where they are. Standard library only, and few modules: this is loaded with every
agent.
"""

import json
import os
from datetime import UTC, datetime

from adapters.files import write_atomically

LOCK, ORDER, PROMPT, STDOUT, STDERR = "lock", "order.json", "prompt", "stdout", "stderr"
DEADLINE, STARTED, IDENTITY, EXIT = "deadline", "started", "identity.json", "exit.json"
QUEUED = "queued"
"""Marker: the run waits for a slot, and was not ordered yet."""
CANCELLED = "cancelled"
"""Marker: the run was cancelled and must not be started any more."""
RESUMES = "resumes"
"""Marker: it was cut off, and its session is to go on in another part as soon as that may start."""
SUSPENSIONS = "suspensions"
"""A line with the time for each change: the run is suspended after an odd number of them."""

OUTPUT_LIMIT = 8 * 1024 * 1024
"""Bytes of standard output that are read back, from its end: a notice of 5 MB is seen whole."""
ERROR_OUTPUT_LIMIT = 64 * 1024
"""Bytes of standard error that are read back, from its end: what a human wants to see."""


def suspensions(directory: str) -> list[str]:
    """When the run was suspended and resumed, in turn."""
    try:
        with open(os.path.join(directory, SUSPENSIONS), encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def count_start(directory: str, at: str = "") -> str:
    """Append a start to the file of starts; returns the time that was written.

    The file is replaced, not appended to: one that a full disk left empty would pass for a start.
    """
    path, at = os.path.join(directory, STARTED), at or now()
    try:
        with open(path, encoding="utf-8") as file:
            before = file.read()
    except FileNotFoundError:
        before = ""
    write_atomically(path, f"{before}{at}\n")
    return at


def write_exit(
    directory: str,
    end: str,
    *,
    exit_code: int | None = None,
    started_at: str | None = None,
    ended_at: str | None = None,
    reason: str = "",
    durable: bool = True,
) -> None:
    """Record how the run ended; this alone also tells whether it was started."""
    record = {
        "end": end,
        "exit_code": exit_code,
        "started_at": started_at,
        "ended_at": ended_at or now(),
        "reason": reason,
    }
    write_atomically(os.path.join(directory, EXIT), json.dumps(record), durable=durable)


def now() -> str:
    """This moment, ISO-8601 in UTC."""
    return datetime.now(UTC).isoformat()
