"""What a dead supervisor left behind, found again without it."""

import os
import signal
from pathlib import Path
from typing import Any

from adapters.runs.directory import RunDirectory
from adapters.runs.processes import (
    ProcessStat,
    all_processes,
    boot_identity,
    descendants,
    process_stat,
)

RUN_DIRECTORY_VARIABLE = "AGOG_RUN_DIR"
"""Every process of a run has this variable from its agent, a daemon in its own session too."""


def leftovers(run: RunDirectory) -> set[int]:
    """Living processes of the run: by its directory in their environment, by session, by descent.

    Meant for a run whose supervisor is gone. Without /proc: the recorded process group.
    """
    identity = run.identity()
    processes = all_processes()
    if not processes:
        return _recorded_group(identity)
    session = _session(identity)
    roots = {pid for pid, stat in processes.items() if _belongs(pid, stat, run, session)}
    return (roots | descendants(roots, processes)) - {os.getpid()}


def signal_supervisor(run: RunDirectory, number: signal.Signals) -> None:
    """Send a signal to the run's supervisor, if that process is still the one recorded."""
    identity = run.identity()
    if not identity or identity["boot"] != boot_identity():
        return
    pid = identity["supervisor"]
    stat = process_stat(pid)
    if (stat.created if stat else None) != identity["created"]["supervisor"]:
        return
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it ended by itself


def _belongs(pid: int, stat: ProcessStat, run: RunDirectory, session: int | None) -> bool:
    if not stat.is_living or pid == os.getpid():
        return False
    named = run_directory_of(pid)
    if named is not None:
        return named == os.fsencode(run.path)
    return session is not None and stat.session == session


def run_directory_of(pid: int) -> bytes | None:
    """Which run a process says it belongs to; None where it does not say, or is not ours."""
    prefix = f"{RUN_DIRECTORY_VARIABLE}=".encode()
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return next((v.removeprefix(prefix) for v in variables if v.startswith(prefix)), None)


def _session(identity: dict[str, Any]) -> int | None:
    """The session of the run, while its number cannot mean another one.

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


def _recorded_group(identity: dict[str, Any]) -> set[int]:
    """The agent's group as a negative number, if it still is in the session of its supervisor."""
    try:
        group: int = identity["group"]
        is_ours = os.getsid(group) == identity["supervisor"]
    except (KeyError, ProcessLookupError):
        return set()
    return {-group} if is_ours else set()
