"""Which process a recorded number stands for: numbers are used again, also after a restart."""

from dataclasses import dataclass
from pathlib import Path

import psutil

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_CLOCK_TOLERANCE_SECONDS = 1.0


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told from every other that had or will have its number."""

    pid: int
    create_time: float
    """Seconds after boot: the clock may be set while the process runs."""
    boot_id: str
    """Empty where the kernel publishes none."""

    def process(self) -> psutil.Process | None:
        """The living process, or None once it is gone or its number is somebody else's."""
        try:
            process = psutil.Process(self.pid)
            is_living = process.status() != psutil.STATUS_ZOMBIE
            drift = abs(_create_time(process) - self.create_time)
        except psutil.NoSuchProcess:
            return None
        is_same = drift < _CLOCK_TOLERANCE_SECONDS and self.boot_id == _boot_id()
        return process if is_living and is_same else None


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has this number now; None if there is none."""
    try:
        return ProcessIdentity(pid, _create_time(psutil.Process(pid)), _boot_id())
    except psutil.NoSuchProcess:
        return None


def _create_time(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())


def _boot_id() -> str:
    return _BOOT_ID.read_text(encoding="ascii").strip() if _BOOT_ID.exists() else ""
