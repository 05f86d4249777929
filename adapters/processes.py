"""Process trees: how a process is identified, what belongs to a tree, and how a tree is ended.

Agents and builds each run under a small supervisor that adopts orphans, so every process of the
tree stays a descendant, whatever session it makes for itself. If the supervisor itself was killed,
its tree is found by an environment variable that all its processes inherited.

Standard library only, and few modules: this is loaded with every agent.
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
"""Between SIGTERM and SIGKILL: enough to flush a log, too short to delay a cancellation."""

Identity = Mapping[str, "Any"]
"""Recorded process ids by name, their start times under `created`, the boot under `boot`."""

_POLL_SECONDS = 0.02
_PROC = "/proc"
_PR_SET_CHILD_SUBREAPER = 36


class ProcessStat:
    """What the kernel says of one process; `created` counts ticks since boot.

    Not a dataclass: the modules behind those take longer to load than an agent takes to start.
    """

    __slots__ = ("created", "is_living", "parent", "session")

    def __init__(self, line: bytes) -> None:
        # The command, in parentheses, may itself hold spaces and parentheses.
        fields = line.rpartition(b")")[2].split()
        self.is_living = fields[0] not in (b"Z", b"X")
        self.parent = int(fields[1])
        self.session = int(fields[3])
        self.created = int(fields[19])


def process_stat(pid: int) -> ProcessStat | None:
    """The process's line in /proc; None if there is no such process, or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return ProcessStat(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None


def all_pids() -> list[int]:
    """The id of every process of this process namespace; empty without /proc."""
    if not os.path.isdir(_PROC):
        return []
    return [int(name) for name in os.listdir(_PROC) if name.isdigit()]


def all_processes() -> dict[int, ProcessStat]:
    """Every process of this process namespace; empty without /proc."""
    return {pid: stat for pid in all_pids() if (stat := process_stat(pid))}


# --- identity -------------------------------------------------------------------------------------


def boot_identity() -> str:
    """Identifies this boot and process namespace: a process id means nothing outside them."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except FileNotFoundError:
        return ""


def identify(**pids: int) -> "dict[str, Any]":
    """What tells these processes, by name, apart from all others that ever have their ids."""
    created = {
        name: stat.created if (stat := process_stat(p)) else None for name, p in pids.items()
    }
    return {**pids, "created": created, "boot": boot_identity()}


def recorded_process(identity: Identity, name: str) -> ProcessStat | None:
    """The recorded process of that name, dead or alive; None once its id is free or reused."""
    if name not in identity or identity["boot"] != boot_identity():
        return None
    stat = process_stat(identity[name])
    return stat if (stat.created if stat else None) == identity["created"][name] else None


def signal_recorded(identity: Identity, name: str, number: signal.Signals) -> bool:
    """Signal the recorded process if its id was not reused; whether it was there."""
    if recorded_process(identity, name) is None:
        return False
    try:
        os.kill(identity[name], number)
    except ProcessLookupError:
        return False  # it ended by itself
    return True


# --- what belongs to a tree -----------------------------------------------------------------------


def descendants(ancestors: set[int], processes: Mapping[int, ProcessStat]) -> set[int]:
    """Every living descendant of those."""
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
    """A process's environment variable; None if it has none, or is not ours to read."""
    prefix = os.fsencode(f"{name}=")
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return next((os.fsdecode(v[len(prefix) :]) for v in variables if v.startswith(prefix)), None)


def leftovers(name: str, value: str, identity: Identity) -> set[int]:
    """Living processes of a tree whose supervisor is gone: by variable, session and descent.

    `identity` is the supervisor's, and may be empty. Without /proc: the recorded group.
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
    """The session of the tree, as long as its id cannot mean another session.

    The kernel does not reuse a session's id while a member lives. A process with that id and
    another start time shows that all members are gone.
    """
    if not identity or identity["boot"] != boot_identity():
        return None
    leader: int = identity["supervisor"]
    stat = process_stat(leader)
    if stat is not None and stat.created != identity["created"]["supervisor"]:
        return None
    return leader


def living_group(group: int) -> set[int]:
    """A process group as a negative number, if a member lives: all that is known without /proc."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return set()
    return {-group}


def _recorded_group(identity: Identity) -> set[int]:
    """The tree's group as a negative number, if it still is in its supervisor's session."""
    try:
        group: int = identity["group"]
        is_ours = os.getsid(group) == identity["supervisor"]
    except (KeyError, ProcessLookupError):
        return set()
    return {-group} if is_ours else set()


# --- how a tree is ended --------------------------------------------------------------------------


def end_processes(living: Callable[[], set[int]], within: float | None = None) -> set[int]:
    """Send SIGTERM to all, SIGKILL after the grace, until none lives; returns what is left.

    Left are processes that are not ours to signal, and all that still live after `within` seconds.
    A stopped process is continued: it would not act on SIGTERM. `living` is called again after each
    round, since a process may fork while it is being ended. A negative number is a process group.
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


# --- what supervisors share -----------------------------------------------------------------------


def become_subreaper() -> None:
    """Adopt the tree's orphans, where the system supports it: its daemons stay below us."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def signal_pipe(cancel: Callable[[], None]) -> int:
    """A descriptor that becomes readable with each signal; a signal to stop calls `cancel`."""
    readable, writable = os.pipe()
    os.set_blocking(readable, False)
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    # Handlers, not SIG_IGN, which the supervised command would inherit.
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
    """The command to start, after undoing what the interpreter added to the environment."""
    if "LC_CTYPE" not in variables:
        os.unsetenv("LC_CTYPE")  # the interpreter sets it in a C locale (PEP 538)
    return argv
