"""What an agent has left in its outbox, copied to where the next ones read it.

The files were written by agents: they are opened without following a link, read up to a bound, and
copied under names that lead nowhere else. What is left out is told by name.
"""

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from adapters.agent_programs.program import AgentProgram
from adapters.agent_programs.stream import event_of
from adapters.files import PRIVATE_FILE, make_private_directory
from pipeline.errors import printable
from pipeline.handover import (
    DEEPEST,
    DOCUMENT_BYTES,
    LOG_BYTES,
    MOST_BYTES,
    MOST_DOCUMENTS,
    MOST_FOLDERS,
    STREAM_BYTES,
    Document,
    Handover,
    safe_name,
)

MOST_REMARKS = 20
MOST_ENTRIES = 10_000
"""Of one folder that are looked at."""

_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


class _LeftOut(Exception):
    """Why a file is not handed on."""


def hand_over(outbox: Path, target: Path, *, writes: bool = True) -> Handover:
    """Copy the documents of an outbox below `target`; none if there is no outbox.

    Without `writes` nothing is copied: the answer says what would be. Blocks.
    Raises: OSError if it cannot be written to `target`.
    """
    return _Copy(outbox, target, writes).made()


def hand_log(
    log: Path,
    target: Path,
    gate: str,
    program: AgentProgram | None = None,
    *,
    writes: bool = True,
) -> Handover:
    """Copy the end of a failure's log to the file `target`, or say why it is not there.

    The stream of a `program` is copied in its form for people, as `logs` shows it.
    """
    try:
        data, size = _read(log, STREAM_BYTES if program else LOG_BYTES, from_end=True)
    except _LeftOut as why:
        return Handover(remarks=(f"{gate}: its log {log} {why}.",))
    if program:
        data = "\n".join(_readable(program, data)).encode(errors="replace")
        size = max(len(data), 0 if size <= STREAM_BYTES else size)
        data = data[-LOG_BYTES:]
    if writes:
        _write(target, data)
    whole = "" if len(data) == size else f", the last {len(data):,} of {size:,} bytes"
    return Handover((Document(str(target), len(data), f": {gate}{whole}"),))


def _readable(program: AgentProgram, stream: bytes) -> Iterator[str]:
    for line in stream.split(b"\n"):
        event = event_of(line)
        yield from program.readable(event) if event else (line.decode(errors="replace"),)


class _Copy:
    """One outbox, on its way."""

    def __init__(self, outbox: Path, target: Path, writes: bool) -> None:
        self._outbox = outbox
        self._target = target
        self._writes = writes
        self._documents: list[Document] = []
        self._remarks: list[str] = []
        self._unsaid = 0
        self._bytes = 0
        self._folders = 0
        self._taken: set[Path] = set()

    def made(self) -> Handover:
        """Copy everything that may be copied."""
        try:
            is_directory = stat.S_ISDIR(os.lstat(self._outbox).st_mode)
        except FileNotFoundError:
            return Handover()
        except OSError as error:
            return Handover(remarks=(f"Its documents cannot be read: {error.strerror}.",))
        if is_directory:
            self._folder(self._outbox, self._target, 0)
        else:
            self._leave(self._outbox, "is no directory any more")
        if self._unsaid:
            self._remarks.append(f"{self._unsaid} more were left out.")
        return Handover(tuple(self._documents), tuple(self._remarks))

    def _folder(self, folder: Path, target: Path, depth: int) -> None:
        self._folders += 1
        if depth > DEEPEST or self._folders > MOST_FOLDERS:
            return self._leave(folder, "lies too deep, or among too many folders")
        try:
            with os.scandir(folder) as found:
                entries = list(islice(found, MOST_ENTRIES))
        except OSError as error:
            return self._leave(folder, f"cannot be read: {error.strerror}")
        if len(entries) == MOST_ENTRIES:
            self._leave(folder, f"holds {MOST_ENTRIES} entries or more, of which so many are seen")
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.is_symlink():
                self._leave(path, "is a link")
            elif entry.is_dir(follow_symlinks=False):
                self._folder(path, self._place(target, entry.name), depth + 1)
            else:
                self._copy(path, target)
        return None

    def _copy(self, path: Path, folder: Path) -> None:
        try:
            if len(self._documents) >= MOST_DOCUMENTS:
                raise _LeftOut(f"is one of more than {MOST_DOCUMENTS}")
            data, size = _read(path, DOCUMENT_BYTES)
            if size > DOCUMENT_BYTES:
                raise _LeftOut(f"is larger than {DOCUMENT_BYTES // 1024**2} MiB")
            if self._bytes + size > MOST_BYTES:
                raise _LeftOut(f"would make more than {MOST_BYTES // 1024**2} MiB together")
        except _LeftOut as why:
            return self._leave(path, str(why))
        target = self._place(folder, path.name)
        if self._writes:
            _write(target, data)
        self._bytes += size
        self._documents.append(Document(str(target), size))
        return None

    def _place(self, folder: Path, name: str) -> Path:
        """A place of its own in the folder: names that differ may look the same once safe."""
        place, number = folder / safe_name(name), 2
        while place in self._taken:
            place, number = folder / f"{number}-{safe_name(name)}", number + 1
        self._taken.add(place)
        return place

    def _leave(self, path: Path, why: str) -> None:
        if len(self._remarks) >= MOST_REMARKS:
            self._unsaid += 1
            return
        name = path.name if path == self._outbox else str(path.relative_to(self._outbox))
        self._remarks.append(f"Left out: {printable(name)[:200]} {why}.")


def _read(path: Path, limit: int, *, from_end: bool = False) -> tuple[bytes, int]:
    """Up to `limit` bytes of a file of its own, and its size. Raises: _LeftOut."""
    try:
        descriptor = os.open(path, _OPEN)
    except OSError as error:
        raise _LeftOut(f"cannot be read: {error.strerror}") from error
    with open(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _LeftOut("is no file")
        if found.st_nlink > 1:
            raise _LeftOut("is linked from elsewhere")
        if from_end:
            file.seek(max(0, found.st_size - limit))
        try:
            return file.read(limit), found.st_size
        except OSError as error:
            raise _LeftOut(f"cannot be read: {error.strerror}") from error


def _write(target: Path, data: bytes) -> None:
    """Write a new file, for its owner alone."""
    make_private_directory(target.parent)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    with open(descriptor, "wb") as file:
        file.write(data)
