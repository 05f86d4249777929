"""Trees of processes: who they are, who belongs to one, and how all of one are ended.

The one way for agents and builds: each runs below a small supervisor that adopts its orphans, so a
process of it stays a descendant whatever session it makes for itself. Where the supervisor itself
was killed, its tree is found again by a variable that all of its processes were given.

Standard library only, and few modules: it is loaded with every agent.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping

TYPE_CHECKING = False  # `typing` itself takes longer to load than the rest of this module
if TYPE_CHECKING:
    from typing import Any

END_GRACE_SECONDS = 3.0
"""Between SIGTERM and SIGKILL: time to flush a log, too short to hold up a cancellation."""

Identity = Mapping[str, "Any"]
"""Recorded process ids by name, under `created` when each began, and under `boot` in which boot."""

_POLL_SECONDS = 0.02
_PROC = "/proc"
_PR_SET_CHILD_SUBREAPER = 36


class ProcessStat:
    """What the kernel says of one process; `created` counts ticks since boot.

    A plain class: the modules behind dataclasses take longer to load than an agent to start.
    """

    __slots__ = ("created", "is_living", "parent", "session")

    def __init__(self, line: bytes) -> None:
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


def all_pids() -> list[int]:
    """The number of every process of this process namespace; empty where there is no /proc."""
    if not os.path.isdir(_PROC):
        return []
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def all_processes() -> dict[int, ProcessStat]:
    """Every process of this process namespace; empty where there is no /proc."""
    return {pid: stat for pid in all_pids() if (stat := process_stat(pid))}


# --- identity -------------------------------------------------------------------------------------


def boot_identity() -> str:
    """Names this boot and process namespace: a pid means nothing outside of them."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except FileNotFoundError:
        return ""


def identify(**pids: int) -> "dict[str, Any]":
    """What tells these processes, by name, from every other that had or will have their numbers."""
    created = {
        name: stat.created if (stat := process_stat(p)) else None for name, p in pids.items()
    }
    return {**pids, "created": created, "boot": boot_identity()}


def recorded_process(identity: Identity, name: str) -> ProcessStat | None:
    """The recorded process of that name, dead or alive; None once its number is free or reused."""
    if name not in identity or identity["boot"] != boot_identity():
        return None
    stat = process_stat(identity[name])
    return stat if (stat.created if stat else None) == identity["created"][name] else None


def signal_recorded(identity: Identity, name: str, number: signal.Signals) -> bool:
    """Signal the recorded process, if it is still that one; whether it was there."""
    if recorded_process(identity, name) is None:
        return False
    try:
        os.kill(identity[name], number)
    except ProcessLookupError:
        return False  # it ended by itself
    return True


# --- who belongs to a tree ------------------------------------------------------------------------


def descendants(ancestors: set[int], processes: Mapping[int, ProcessStat]) -> set[int]:
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


def variable_of(pid: int, name: str) -> str | None:
    """What a process was given as that variable; None where it was not, or is not ours to read."""
    prefix = os.fsencode(f"{name}=")
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return next((os.fsdecode(v[len(prefix) :]) for v in variables if v.startswith(prefix)), None)


def leftovers(name: str, value: str, identity: Identity) -> set[int]:
    """Living processes of a tree whose supervisor is gone: by variable, session and descent.

    `identity` is that of the supervisor, and may be empty. Without /proc: the recorded group.
    """
    processes = all_processes()
    if not processes:
        return _recorded_group(identity)
    session = _session(identity)
    roots = {
        pid
        for pid, stat in processes.items()
        if stat.is_living and pid != os.getpid() and _belongs(pid, stat, name, value, session)
    }
    return (roots | descendants(roots, processes)) - {os.getpid()}


def _belongs(pid: int, stat: ProcessStat, name: str, value: str, session: int | None) -> bool:
    named = variable_of(pid, name)
    if named is not None:
        return named == value
    return session is not None and stat.session == session


def _session(identity: Identity) -> int | None:
    """The session of the tree, while its number cannot mean another one.

    The kernel keeps a session's number from being given again while a member lives. A process of
    that number with another start time tells that all members are gone.
    """
    if not identity or identity["boot"] != boot_identity():
        return None
    leader: int = identity["supervisor"]
    stat = process_stat(leader)
    if stat is not None and stat.created != identity["created"]["supervisor"]:
        return None
    return leader


def living_group(group: int) -> set[int]:
    """A process group as a negative number, if any of it lives: all that is known without /proc."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return set()
    return {-group}


def _recorded_group(identity: Identity) -> set[int]:
    """The tree's group as a negative number, if it still is in the session of its supervisor."""
    try:
        group: int = identity["group"]
        is_ours = os.getsid(group) == identity["supervisor"]
    except (KeyError, ProcessLookupError):
        return set()
    return {-group} if is_ours else set()


# --- how it is ended ------------------------------------------------------------------------------


def end_processes(living: Callable[[], set[int]], within: float | None = None) -> set[int]:
    """SIGTERM to all, after the grace SIGKILL, until none lives; those that are left all the same.

    Left are those that are not ours to end, and all that live when the time `within` is over. One
    that stands still is continued: it would not act on SIGTERM. `living` is asked again after each
    round: a process may fork while it is being ended. A negative number is a process group.
    """
    began = time.monotonic()
    asked: set[int] = set()
    untouchable: set[int] = set()
    while found := living() - untouchable:
        passed = time.monotonic() - began
        if within is not None and passed >= within:
            return found | untouchable
        is_late = passed >= END_GRACE_SECONDS
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


# --- what a supervisor does to be one -------------------------------------------------------------


def become_subreaper() -> None:
    """Adopt orphans of the tree, where the system can: a daemon of it stays below us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_pipe(cancel: Callable[[], None]) -> int:
    """A descriptor that becomes readable with each signal; asks to stop call `cancel`."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    # Handlers, not SIG_IGN: that would be inherited by what is supervised.
    for number in (signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: cancel())
    return readable


def reap() -> dict[int, int]:
    """Collect every child that has ended, adopted orphans included; exit codes by process id."""
    ended: dict[int, int] = {}
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return ended
            ended[pid] = os.waitstatus_to_exitcode(status)
    except ChildProcessError:
        return ended


def living_below_us(group: int | None) -> set[int]:
    """Every living process that we started or adopted; without /proc, the given process group."""
    if processes := all_processes():
        return descendants({os.getpid()}, processes)
    return living_group(group) if group else set()


def start_of_command(argv: list[str], variables: list[str]) -> list[str]:
    """The command as it is started: without what the interpreter has added to the environment."""
    if "LC_CTYPE" not in variables:
        os.unsetenv("LC_CTYPE")  # the interpreter sets it in a C locale (PEP 538)
    return argv
