"""The logs of the stack's processes: appended, bounded, and quoted where something failed."""

from pathlib import Path

MAX_LOG_BYTES = 10_000_000
"""A log that has grown beyond this is set aside, once, when its process starts."""

_TAIL_BYTES = 4_000
_TAIL_LINES = 15


def rotate(log: Path) -> None:
    """Set an overgrown log aside as `<name>.1`, in place of the one before."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


def tail(log: Path) -> str:
    """The last lines of a log; empty if there is none."""
    if not log.exists():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
