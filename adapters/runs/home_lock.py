"""One worker per state directory: two would each hand out the slots of one host."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.errors import RefusedInput

WORKER_LOCK = "worker.lock"


class HomeLock:
    """The state directory's lock, held by the kernel until this process ends or lets go."""

    def __init__(self, home: Path) -> None:
        """Take the state directory; it is made if it is not there."""
        self._home = home
        self._lock: int | None = None

    def acquire(self) -> None:
        """Lock the state directory. Raises: RefusedInput that names the holder."""
        self._home.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._home / WORKER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 64, 0).decode(errors="replace").strip()
            os.close(lock)
            raise RefusedInput(
                f"State directory {self._home} is in use by the worker with process id {holder}."
                " Stop that one, or set AGOG_HOME to another directory."
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        self._lock = lock

    def release(self) -> None:
        """Let go of the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
