"""Processes as the kernel shows them, and how all of a run are ended.

Standard library only, and few modules: it is loaded with every agent.
"""

import os
import signal
import time
from collections.abc import Callable

END_GRACE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL: time to flush a log, too short to hold up a cancellation."""

_POLL_SECONDS = 0.02
_PROC = "/proc"


class ProcessStat:
    """What the kernel says of one process; `created` counts ticks since boot.

    A plain class: the modules behind dataclasses take longer to load than an agent to start.
    """

    __slots__ = ("created", "is_living", "parent", "session")

    def __init__(self, line: bytes) -> None:
        """Read a line of /proc/PID/stat."""
        # The command in parentheses may hold spaces and parentheses of its own.
        fields = line.rpartition(b")")[2].split()
        self.is_living = fields[0] not in (b"Z", b"X")
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.created = int(fields[19])


def process_stat(pid: int) -> ProcessStat | None:
    """The process's line in /proc; None where there is no such process, or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return ProcessStat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def all_processes() -> dict[int, ProcessStat]:
    """Every process of this process namespace; empty where there is no /proc."""
    if not os.path.isdir(_PROC):
        return {}
    pids = (int(name) for name in os.listdir(_PROC) if name.isdigit())
    return {pid: stat for pid in pids if (stat := process_stat(pid))}


def boot_identity() -> str:
    """Names this boot and process namespace: a pid means nothing outside of them."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except FileNotFoundError:
        return ""


def descendants(ancestors: set[int], processes: dict[int, ProcessStat]) -> set[int]:
    """Every living process below those."""
    children: dict[int, list[int]] = {}
    for pid, stat in processes.items():
        children.setdefault(stat.parent, []).append(pid)
    found: set[int] = set()
    frontier = list(ancestors)
    while frontier:
        below = children.pop(frontier.pop(), [])
        found.update(below)
        frontier.extend(below)
    return {pid for pid in found if processes[pid].is_living}


def living_group(group: int) -> set[int]:
    """A process group as a negative number, if any of it lives: all that is known without /proc."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return set()
    return {-group}


def end_processes(living: Callable[[], set[int]]) -> set[int]:
    """SIGTERM to all, after the grace SIGKILL, until none lives; those that are not ours to end.

    One that stands still is continued: it would not act on SIGTERM. `living` is asked again after
    each round: a process may fork while it is being ended.
    A negative number is a process group.
    """
    kill_at = time.monotonic() + END_GRACE_SECONDS
    asked: set[int] = set()
    untouchable: set[int] = set()
    while found := living() - untouchable:
        is_late = time.monotonic() >= kill_at
        for pid in found if is_late else found - asked:
            try:
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
            except PermissionError:
                untouchable.add(pid)
        asked |= found
        time.sleep(_POLL_SECONDS)
    return untouchable
