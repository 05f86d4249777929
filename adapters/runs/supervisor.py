"""Supervisor of one agent run: a process of its own, so that the agent outlives the worker.

It holds the run's lock for its life, counts the start before it makes it, keeps the deadline, lets
the run stand still, passes on what the agent prints, ends every process of it and writes how it
ended, as soon as the disk has room for that. Standard library only, and few modules: it starts with
every agent.
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
from collections.abc import Callable

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
    ERROR_OUTPUT_LIMIT,
    EXIT,
    IDENTITY,
    LOCK,
    ORDER,
    OUTPUT_LIMIT,
    PROMPT,
    STARTED,
    STDERR,
    STDOUT,
    Output,
    count_start,
    is_no_room,
    now,
    write_atomically,
    write_exit,
)
from adapters.runs.standstill import LOOK_SECONDS, Standstill

REFUSED = 3
"""Exit code of a supervisor that found another one, or a run that was started before."""

_LONGEST_WAIT_SECONDS = 3600.0
_ROOM_SECONDS = 0.5
"""Between two tries to write what a disk has had no room for."""


class Supervisor:
    """One run: starts its agent, watches it, ends everything that is left of it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        with open(self._path(ORDER), encoding="utf-8") as file:
            self._order = json.load(file)
        self._allowed: float = self._order["deadline_seconds"]
        self._outputs: dict[str, Output] = {}
        self._agent: subprocess.Popen[bytes] | None = None
        self._exit_code: int | None = None
        self._ended_at: str | None = None
        self._cancelled = False
        self._standstill = Standstill(directory, self._living)
        self._wake_up = signal_pipe(self._cancel)

    def run(self) -> None:
        """Live through the run and record its end."""
        become_subreaper()
        self._when_there_is_room(self._record_identity)
        self._wait_until_wanted()
        started_at = "" if self._is_cancelled() else self._when_there_is_room(self._count_start)
        if not started_at:
            self._write_exit("cancelled", reason="cancelled before it started")
            return
        try:
            self._start()
        except OSError as error:
            reason = f"cannot start {self._order['argv'][0]}: {error.strerror}: {error.filename}"
            self._write_exit("not_started", reason=reason)
            return
        end, reason = self._watch_and_end()
        self._write_exit(
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

    def _is_cancelled(self) -> bool:
        return self._cancelled or os.path.exists(self._path(CANCELLED))

    def _when_there_is_room(self, write: Callable[[], str]) -> str:
        """Write as soon as the disk has room; empty if the run is cancelled before."""
        while not self._is_cancelled():
            try:
                return write()
            except OSError as error:
                if not is_no_room(error):
                    raise
            self._sleep(_ROOM_SECONDS)
        return ""

    def _count_start(self) -> str:
        """Everything that a start needs of the disk; when it was."""
        for name, limit in ((STDOUT, OUTPUT_LIMIT), (STDERR, ERROR_OUTPUT_LIMIT)):
            if name not in self._outputs:
                self._outputs[name] = Output(self._path(name), limit)
        return count_start(self._directory)

    def _write_exit(
        self,
        end: str,
        *,
        exit_code: int | None = None,
        started_at: str | None = None,
        ended_at: str | None = None,
        reason: str = "",
    ) -> None:
        """Record the end and what was printed, whatever the disk takes: somebody was paid for it.

        Also where the records were removed meanwhile: they are made anew.
        """
        ended_at = ended_at or now()
        while True:
            try:
                os.makedirs(self._directory, 0o700, exist_ok=True)
                for output in self._outputs.values():
                    output.settle()
                if not os.path.exists(self._path(ORDER)):
                    write_atomically(self._path(ORDER), json.dumps(self._order))
                write_exit(
                    self._directory,
                    end,
                    exit_code=exit_code,
                    started_at=started_at,
                    ended_at=ended_at,
                    reason=reason,
                )
                return
            except OSError:
                time.sleep(_ROOM_SECONDS)

    def _start(self) -> None:
        argv = start_of_command(self._order["argv"], self._order["variables"])
        output, errors = self._outputs[STDOUT], self._outputs[STDERR]
        with open(self._path(PROMPT), "rb") as prompt:
            self._agent = subprocess.Popen(
                argv,
                stdin=prompt,
                stdout=output.writable,
                stderr=errors.writable,
                cwd=self._order["directory"],
                process_group=0,
            )
        output.started()
        errors.started()
        with contextlib.suppress(OSError):  # without it the agent is found by its environment
            self._record_identity()

    def _record_identity(self) -> str:
        processes = {"supervisor": os.getpid()}
        if self._agent:
            processes["agent"] = processes["group"] = self._agent.pid
        # Not durable: after a power cut these processes are gone in any case.
        text = json.dumps(identify(**processes))
        write_atomically(self._path(IDENTITY), text, durable=False)
        return text

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
        """Wait for a signal, at most so long; what the agent prints meanwhile is passed on."""
        until = time.monotonic() + seconds
        outputs = self._outputs.values()
        while (left := until - time.monotonic()) >= 0:
            if any(output.is_held for output in outputs):
                left = min(left, _ROOM_SECONDS)
            printing = [output.fileno() for output in outputs if output.is_open]
            readable, _, _ = select.select([self._wake_up, *printing], [], [], left)
            self._pump()
            if self._wake_up in readable:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake_up, 4096)
                return

    def _pump(self) -> None:
        for output in self._outputs.values():
            output.pump()
            with contextlib.suppress(OSError):
                output.flush()

    def _deadline(self) -> float:
        """What the file says, or has said last."""
        with contextlib.suppress(OSError, ValueError), open(self._path(DEADLINE)) as file:
            self._allowed = float(file.read())
        return self._allowed

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
        self._pump()  # who is being ended must not hang in a full pipe
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
    """Supervise the run with those records; refuse one that is or was supervised."""
    directory = arguments[0]
    if not hold_lock(directory, int(arguments[1]) if len(arguments) > 1 else None):
        sys.stderr.write("Another supervisor holds this run.\n")
        return REFUSED
    if any(os.path.exists(os.path.join(directory, name)) for name in (STARTED, EXIT)):
        sys.stderr.write("This run was started before.\n")
        return REFUSED
    Supervisor(directory).run()
    return 0
