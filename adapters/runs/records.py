"""The files of a run directory that supervisor and worker both write, and how they are written.

Standard library only, and few modules: it is loaded with every agent.
"""

import json
import os
import threading
from datetime import UTC, datetime

LOCK, ORDER, PROMPT, STDOUT, STDERR = "lock", "order.json", "prompt", "stdout", "stderr"
DEADLINE, STARTED, IDENTITY, EXIT = "deadline", "started", "identity.json", "exit.json"
QUEUED = "queued"
"""Marker: the run waits for a slot, and was not ordered yet."""
CANCELLED = "cancelled"
"""Marker: the run was cancelled and must not be started any more."""
SUSPENSIONS = "suspensions"
"""A line with the time for each change: the run stands still after an odd number of them."""


def write_atomically(path: str, text: str, *, durable: bool = True) -> None:
    """Put the whole text in place of the file, or nothing; `durable` outlives a power cut."""
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        if durable:
            file.flush()
            os.fsync(file.fileno())
    os.rename(temporary, path)
    if durable:
        _sync_directory(path)


def suspensions(directory: str) -> list[str]:
    """When the run was suspended and went on again, in turn."""
    try:
        with open(os.path.join(directory, SUSPENSIONS), encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def count_start(directory: str, *, durable: bool = True) -> str:
    """Add this start to the file that counts starts; the time that was written."""
    path, at = os.path.join(directory, STARTED), now()
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{at}\n")
        if durable:
            file.flush()
            os.fsync(file.fileno())
    if durable:
        _sync_directory(path)
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
    """Record how the run ended: the last word on it."""
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


def _sync_directory(path: str) -> None:
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
