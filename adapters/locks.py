"""Locks of a state directory: for one worker, and for what must happen one at a time on a host."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from hashlib import sha256
from pathlib import Path
from weakref import WeakValueDictionary

from adapters.files import try_lock
from pipeline.errors import RefusedInput

POLL_SECONDS = 0.02


@contextmanager
def home_lock(home: Path) -> Iterator[None]:
    """One worker per state directory: two would each hand out the slots of one host.

    Raises: RefusedInput that names the holder.
    """
    home.mkdir(parents=True, exist_ok=True)
    path = home / "worker.lock"
    lock = try_lock(path)
    if lock is None:
        raise RefusedInput(
            f"State directory {home} is in use by the worker with process id"
            f" {path.read_text(errors='replace').strip()}."
            " Stop that one, or set AGOG_HOME to another directory."
        )
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(lock)


class Locks:
    """Named locks: first come, first served in this process; exclusive against every other one."""

    def __init__(self, directory: Path) -> None:
        """Keep the lock files in `directory`, made when first needed."""
        self._directory = directory
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def hold(self, name: str) -> AsyncIterator[None]:
        """Hold the lock of that name; waits as long as it takes."""
        queue = self._queues.get(name) or asyncio.Lock()
        self._queues[name] = queue
        async with queue:
            self._directory.mkdir(parents=True, exist_ok=True)
            path = self._directory / f"{name}.lock"
            while (lock := _current_lock(path)) is None:  # noqa: ASYNC110 -- the kernel sets no Event
                await asyncio.sleep(POLL_SECONDS)
            try:
                yield
            finally:
                try:
                    path.unlink()
                finally:
                    os.close(lock)


def path_key(path: Path) -> str:
    """A short file name that stands for an absolute path."""
    return f"{path.name}-{sha256(bytes(path.absolute())).hexdigest()[:16]}"


def _current_lock(path: Path) -> int | None:
    """The file's lock; None while another process holds it or has just removed the file."""
    lock = try_lock(path)
    if lock is not None:
        try:
            if os.path.samestat(os.fstat(lock), path.stat()):
                return lock
        except FileNotFoundError:
            pass
        os.close(lock)
    return None
