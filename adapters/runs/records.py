"""The records of a run that supervisor and worker both write, and how they are written.

No agent is told where they are. A disk without room is waited for: what happened is kept in memory
until it can be written. Standard library only, and few modules: it is loaded with every agent.
"""

import errno
import json
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime

LOCK, ORDER, PROMPT, STDOUT, STDERR = "lock", "order.json", "prompt", "stdout", "stderr"
DEADLINE, STARTED, IDENTITY, EXIT = "deadline", "started", "identity.json", "exit.json"
QUEUED = "queued"
"""Marker: the run waits for a slot, and was not ordered yet."""
CANCELLED = "cancelled"
"""Marker: the run was cancelled and must not be started any more."""
SUSPENSIONS = "suspensions"
"""A line with the time for each change: the run stands still after an odd number of them."""

OUTPUT_LIMIT = 8 * 1024 * 1024
"""Bytes of standard output that are read back, from its end: a notice of 5 MB is seen whole."""
ERROR_OUTPUT_LIMIT = 64 * 1024
"""Bytes of standard error that are read back, from its end: what a human wants to see."""

_CHUNK = 64 * 1024
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def is_no_room(error: BaseException) -> bool:
    """Whether the disk was full, or this user's share of it."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def write_atomically(path: str, text: str, *, durable: bool = True) -> None:
    """Put the whole text in place of the file, or nothing; `durable` outlives a power cut."""
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        _sync_directory(path)


def suspensions(directory: str) -> list[str]:
    """When the run was suspended and went on again, in turn."""
    try:
        with open(os.path.join(directory, SUSPENSIONS), encoding="ascii") as file:
            return file.read().split()
    except FileNotFoundError:
        return []


def count_start(directory: str, *, at: str = "", durable: bool = True) -> str:
    """Add this start to the file that counts starts; the time that was written.

    All or nothing: a file that a full disk left empty would pass for a start.
    """
    path, at = os.path.join(directory, STARTED), at or now()
    try:
        with open(path, encoding="utf-8") as file:
            before = file.read()
    except FileNotFoundError:
        before = ""
    write_atomically(path, f"{before}{at}\n", durable=durable)
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
    """Record how the run ended: the last word on it, and enough to know that it was started."""
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


class Output:
    """One stream of an agent, on its way through a pipe to a file.

    What the disk has no room for stays in memory, up to what is read back of it at all: an agent
    notices nothing of a full disk, and its answer is not lost to it.
    """

    def __init__(self, path: str, limit: int) -> None:
        """Open the file, which is appended to. Raises: OSError."""
        self._path = path
        self._limit = limit
        self._held = bytearray()
        self._file = _open(path)
        self._readable, self.writable = os.pipe()
        os.set_blocking(self._readable, False)
        self.is_open = True

    def fileno(self) -> int:
        """The end of the pipe that becomes readable when the agent prints."""
        return self._readable

    @property
    def is_held(self) -> bool:
        """Whether something waits for room on the disk."""
        return bool(self._held)

    def started(self) -> None:
        """The agent has the other end of the pipe now."""
        os.close(self.writable)

    def pump(self) -> None:
        """Move what the agent has printed, as far as there is room."""
        while self.is_open:
            try:
                data = os.read(self._readable, _CHUNK)
            except BlockingIOError:
                return
            self.is_open = bool(data)
            self._held += data
            with suppress(OSError):
                self.flush()
            del self._held[: -self._limit]

    def flush(self) -> None:
        """Write what is held in memory. Raises: OSError if it has to stay there."""
        while self._held:
            written = os.write(self._file, self._held[:_CHUNK])
            del self._held[:written]

    def settle(self) -> None:
        """Have everything in the file, which may have been removed. Raises: OSError if not yet."""
        self.pump()
        if not _is_at(self._path, self._file):
            self._file = _copied(self._file, self._path)
        self.flush()


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _is_at(path: str, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _copied(file: int, path: str) -> int:
    """A file at that path with what the removed one holds. Raises: OSError."""
    copy, position = _open(path), 0
    try:
        os.ftruncate(copy, 0)
        while data := os.pread(file, _CHUNK, position):
            position += os.write(copy, data)
    except OSError:
        os.close(copy)
        raise
    os.close(file)
    return copy


def _sync_directory(path: str) -> None:
    directory = os.open(os.path.dirname(path), os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
