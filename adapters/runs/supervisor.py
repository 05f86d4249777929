"""Supervisor of one agent run: a process of its own, so that the agent outlives the worker.

It holds the run's lock for its life, counts the start before it makes it, keeps the deadline, lets
the run stand still, ends every process of it and writes how it ended. Standard library only, and
few modules: it starts with every agent.
"""

import contextlib
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time

from adapters.processes import (
    all_processes,
    become_subreaper,
    descendants,
    end_processes,
    identify,
    living_group,
    signal_pipe,
    start_of_command,
)
from adapters.runs.records import (
    CANCELLED,
    DEADLINE,
    EXIT,
    IDENTITY,
    LOCK,
    ORDER,
    PROMPT,
    STARTED,
    STDERR,
    STDOUT,
    count_start,
    now,
    write_atomically,
    write_exit,
)
from adapters.runs.standstill import LOOK_SECONDS, Standstill

REFUSED = 3
"""Exit code of a supervisor that found another one, or a run that was started before."""

_LONGEST_WAIT_SECONDS = 3600.0


class Supervisor:
    """One run: starts its agent, watches it, ends everything that is left of it."""

    def __init__(self, directory: str) -> None:
        """Take the run directory, whose lock this process holds."""
        self._directory = directory
        with open(self._path(ORDER), encoding="utf-8") as file:
            self._order = json.load(file)
        self._agent: subprocess.Popen[bytes] | None = None
        self._exit_code: int | None = None
        self._ended_at: str | None = None
        self._cancelled = False
        self._standstill = Standstill(directory, self._living)
        self._wake_up = signal_pipe(self._cancel)

    def run(self) -> None:
        """Live through the run and record its end."""
        become_subreaper()
        self._record_identity()
        self._wait_until_wanted()
        if self._cancelled or os.path.exists(self._path(CANCELLED)):
            write_exit(self._directory, "cancelled", reason="cancelled before it started")
            return
        started_at = count_start(self._directory)
        try:
            self._start()
        except OSError as error:
            reason = f"cannot start {self._order['argv'][0]}: {error.strerror}: {error.filename}"
            write_exit(self._directory, "not_started", reason=reason)
            return
        end, reason = self._watch_and_end()
        write_exit(
            self._directory,
            end,
            exit_code=self._exit_code if end == "exited" else None,
            started_at=started_at,
            ended_at=self._ended_at,
            reason=reason,
        )

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name)

    def _cancel(self) -> None:
        self._cancelled = True

    def _start(self) -> None:
        argv = start_of_command(self._order["argv"], self._order["variables"])
        with (
            open(self._path(PROMPT), "rb") as prompt,
            open(self._path(STDOUT), "ab") as output,
            open(self._path(STDERR), "ab") as errors,
        ):
            self._agent = subprocess.Popen(
                argv,
                stdin=prompt,
                stdout=output,
                stderr=errors,
                cwd=self._order["directory"],
                process_group=0,
            )
        self._record_identity()

    def _record_identity(self) -> None:
        processes = {"supervisor": os.getpid()}
        if self._agent:
            processes["agent"] = processes["group"] = self._agent.pid
        # Not durable: after a power cut these processes are gone in any case.
        write_atomically(self._path(IDENTITY), json.dumps(identify(**processes)), durable=False)

    def _wait_until_wanted(self) -> None:
        """Do not start an agent that would have to stand still."""
        while self._standstill.is_ordered and not self._cancelled:
            self._sleep(LOOK_SECONDS)

    def _watch_and_end(self) -> tuple[str, str]:
        try:
            end, reason = self._watch(time.monotonic())
        finally:
            left = end_processes(self._living)
        if left:
            reason = f"{reason}; not ours to end: {sorted(left)}".lstrip("; ")
        return end, reason

    def _watch(self, started: float) -> tuple[str, str]:
        """Wait for the agent's exit, a cancellation or the deadline, whichever is first."""
        standing: float | None = None
        while True:
            self._reap()
            if self._exit_code is not None:
                return _exit(self._exit_code, was_standing=standing is not None)
            if self._cancelled:
                return "cancelled", "cancelled"
            standing = self._standstill.heed()
            allowed = self._deadline() + self._order["grace_seconds"]
            left = started + allowed + self._standstill.seconds - time.monotonic()
            if left <= 0 and standing is None:
                return "timed_out", _timeout_reason(allowed, self._standstill.seconds)
            self._sleep(min(left, _LONGEST_WAIT_SECONDS) if standing is None else standing)

    def _sleep(self, seconds: float) -> None:
        """Wait for a signal, at most so long."""
        select.select([self._wake_up], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_up, 4096)

    def _deadline(self) -> float:
        with open(self._path(DEADLINE), encoding="ascii") as file:
            return float(file.read())

    def _reap(self) -> None:
        """Collect what has ended: the agent, and orphans that came to this process."""
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                if self._agent and pid == self._agent.pid:
                    self._exit_code = self._agent.returncode = os.waitstatus_to_exitcode(status)
                    self._ended_at = now()

    def _living(self) -> set[int]:
        self._reap()
        if processes := all_processes():
            return descendants({os.getpid()}, processes)
        return living_group(self._agent.pid) if self._agent else set()


def _timeout_reason(allowed: float, stood: float) -> str:
    reason = f"ended {allowed:g} s after its start: deadline and grace"
    return f"{reason}, without {stood:.0f} s in which it stood still" if stood else reason


def _exit(exit_code: int, *, was_standing: bool) -> tuple[str, str]:
    """How it ended, and why; what stands still cannot end by itself, so it was killed."""
    if exit_code >= 0:
        return "exited", ""
    reason = f"ended by {signal.Signals(-exit_code).name}"
    return ("lost", f"{reason} while it stood still") if was_standing else ("exited", reason)


def hold_lock(directory: str, inherited: int | None) -> bool:
    """Hold the run's lock until this process ends; False if another one holds it."""
    path = os.path.join(directory, LOCK)
    lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600) if inherited is None else inherited
    os.set_inheritable(lock, False)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main(arguments: list[str]) -> int:
    """Supervise the run of that directory; refuse one that is or was supervised."""
    directory = arguments[0]
    if not hold_lock(directory, int(arguments[1]) if len(arguments) > 1 else None):
        sys.stderr.write("Another supervisor holds this run.\n")
        return REFUSED
    if any(os.path.exists(os.path.join(directory, name)) for name in (STARTED, EXIT)):
        sys.stderr.write("This run was started before.\n")
        return REFUSED
    Supervisor(directory).run()
    return 0
