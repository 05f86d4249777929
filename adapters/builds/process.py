"""Processes of builds: a session of their own, ended whole, found again after a crash."""

import asyncio
import json
import os
import signal
import time
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from adapters.locks import path_key
from pipeline.errors import TransientError

TERM_GRACE_SECONDS = 5.0
"""Between SIGTERM and SIGKILL: time for a build tool to remove its temporary files."""
KILL_SECONDS = 10.0
"""Until a killed process must be gone; one that hangs in the kernel is reported."""
POLL_SECONDS = 0.05


class BuildProcesses:
    """Builds of a state directory, at most one per worktree; each is recorded while it runs."""

    def __init__(self, home: Path) -> None:
        """Take the host's state directory."""
        self._records = home / "builds" / "running"

    async def start(
        self,
        worktree: Path,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        log: Path,
    ) -> Process:
        """Start a command of the worktree's build; both its streams are appended to the log.

        Raises: OSError if the program cannot be started.
        """
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                cwd=directory,
                env=dict(environment),
                stdin=DEVNULL,
                stdout=output,
                stderr=STDOUT,
                start_new_session=True,
            )
        self._record(worktree, process.pid)
        return process

    async def end(self, worktree: Path) -> None:
        """End whatever the worktree's build left running, also that of a worker which died.

        Raises: TransientError if a process cannot be ended.
        """
        record = self._path(worktree)
        if not record.exists():
            return
        identity = json.loads(record.read_text())
        if not _is_reused(identity["pid"], identity["created"]):
            await _end_session(identity["pid"])
        record.unlink(missing_ok=True)

    def _record(self, worktree: Path, pid: int) -> None:
        record = self._path(worktree)
        record.parent.mkdir(parents=True, exist_ok=True)
        draft = record.with_suffix(".draft")
        draft.write_text(json.dumps({"pid": pid, "created": _created(pid)}))
        draft.replace(record)

    def _path(self, worktree: Path) -> Path:
        return self._records / f"{path_key(worktree)}.json"


def _created(pid: int) -> float | None:
    try:
        created: float = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return None
    return created


def _is_reused(pid: int, created: float | None) -> bool:
    """Whether the pid means another process by now.

    It cannot while a member of its session lives: the kernel reserves it (credentials(7)).
    """
    now = _created(pid)
    return now is not None and now != created


async def _end_session(leader: int) -> None:
    """SIGTERM, then SIGKILL, to every process of the session and every descendant of one."""
    doomed = _members(leader)
    last_chance = time.monotonic() + TERM_GRACE_SECONDS
    _signal(doomed, signal.SIGTERM)
    try:
        while _alive(doomed) and time.monotonic() < last_chance:
            await asyncio.sleep(POLL_SECONDS)
            doomed |= _members(leader)
    finally:
        # Reached as well when we are cancelled a second time: nothing is left alive then either.
        _signal(_alive(doomed), signal.SIGKILL)
    await _see_killed(leader, doomed)


async def _see_killed(leader: int, doomed: set[psutil.Process]) -> None:
    """Kill until nothing is left: what forked in between was not in our list."""
    last_chance = time.monotonic() + KILL_SECONDS
    while left := _alive(doomed | _members(leader)):
        if time.monotonic() > last_chance:
            pids = ", ".join(str(process.pid) for process in left)
            raise TransientError(f"Processes {pids} of a build cannot be ended.")
        _signal(left, signal.SIGKILL)
        await asyncio.sleep(POLL_SECONDS)


def _members(leader: int) -> set[psutil.Process]:
    """By session, not by group: a shell's jobs and `timeout` make groups of their own."""
    processes = {process.pid: process for process in psutil.process_iter(["ppid"])}
    inside: set[int] = set()
    more = {pid for pid in processes if _session(pid) == leader}
    while more:
        inside |= more
        more = {pid for pid, it in processes.items() if it.info["ppid"] in inside} - inside
    return {processes[pid] for pid in inside}


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _alive(processes: set[psutil.Process]) -> set[psutil.Process]:
    return {process for process in processes if _is_alive(process)}


def _is_alive(process: psutil.Process) -> bool:
    """A zombie is dead: only its parent has not heard of it yet."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _signal(processes: set[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # gone, or one of another user's: whoever waits for its end will tell
