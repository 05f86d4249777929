"""A small disk of a test's own, which it fills and empties."""

import errno
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system with nothing else on it."""

    path: Path

    @property
    def _filler(self) -> Path:
        return self.path / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC  # noqa: PT017 # the end of the loop

    def empty(self) -> None:
        """Give back what was filled."""
        self._filler.unlink()


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mount one at that path until the block ends."""
    path.mkdir(parents=True, exist_ok=True)
    name = f"{path.name}-{os.getpid()}-{time.monotonic_ns()}"
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", name, str(path)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"this user may not mount: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        # Whoever moves a folder moves what is mounted in it.
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        ours = (line.split(" ")[1] for line in mounts if line.startswith(f"{name} "))
        places = [place.replace("\\040", " ") for place in ours]
        subprocess.run(["umount", "--lazy", *places], check=True)
