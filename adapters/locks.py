"""Named locks of a state directory, for what must happen one at a time on this host."""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from io import BufferedWriter
from pathlib import Path
from weakref import WeakValueDictionary

POLL_SECONDS = 0.02


class Locks:
    """First come, first served within this process; exclusive against every other process.

    The kernel frees a lock when its holder dies, so a crash leaves none behind.
    """

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
            file = _locked(path)
            while file is None:
                await asyncio.sleep(POLL_SECONDS)
                file = _locked(path)
            with file:
                try:
                    yield
                finally:
                    path.unlink()


def path_key(path: Path) -> str:
    """A short file name that stands for an absolute path."""
    return f"{path.name}-{sha256(bytes(path.absolute())).hexdigest()[:16]}"


def _locked(path: Path) -> BufferedWriter | None:
    """The locked file; None while another process holds it or has just removed it."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
    except (BlockingIOError, FileNotFoundError):
        pass
    file.close()
    return None
