"""Files that are written whole or not at all, read from their end, or locked.

Standard library only, and few modules: this is loaded with every agent.
"""

import errno
import fcntl
import os
import threading
from contextlib import suppress

TYPE_CHECKING = False  # `typing` itself takes longer to load than the rest of this module
if TYPE_CHECKING:
    from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def is_no_room(error: BaseException) -> bool:
    """Whether the disk, or this user's quota on it, was full."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def write_atomically(
    path: "str | Path", text: str, *, durable: bool = True, mode: int = 0o666
) -> None:
    """Replace the file with the whole text, or leave it alone; `durable` survives a power cut."""
    temporary = f"{path}.{os.getpid()}-{threading.get_ident()}.tmp"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if durable:
                file.flush()
                os.fsync(descriptor)
        os.rename(temporary, path)
    except OSError:
        with suppress(OSError):
            os.unlink(temporary)
        raise
    if durable:
        directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def make_private_directory(path: "Path") -> "Path":
    """The directory, made for its owner alone if it is not there yet."""
    path.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
    return path


def read_tail(path: "Path", limit: int) -> str:
    """The last `limit` bytes of a file as text; empty if there is no such file."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit).decode(errors="replace")
    except FileNotFoundError:
        return ""


def try_lock(path: "Path") -> int | None:
    """A descriptor that locks the file until it is closed; None while another one does.

    The kernel frees the lock when its holder dies. A child that inherits the descriptor keeps it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
