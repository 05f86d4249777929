"""Supervisor of one agent run: a process of its own, so that the agent outlives the worker.

It holds the run's lock as long as it lives, records the start before it makes it, enforces the
deadline, suspends and resumes the run, passes on what the agent prints, ends every process of the
run and records the end. If the disk is full it keeps all this in memory until there is room.
Standard library only, and few modules: it is loaded with every agent.
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
from collections.abc import Callable, Sequence

from adapters.files import is_no_room, write_atomically
from adapters.processes import (
    become_subreaper,
    end_processes,
    identify,
    living_below_us,
    reap,
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
    count_start,
    now,
    suspensions,
    write_exit,
)

REFUSED = 3
"""Exit code of a supervisor whose run has another supervisor, or was started before."""

LOOK_SECONDS = 1.0
"""Between two looks at the order while the run is suspended: the signal to look may be lost."""

_LONGEST_WAIT_SECONDS = 3600.0
_ROOM_SECONDS = 0.5
"""Between two tries to write to a full disk."""
_SHORT_SECONDS = 0.02
_CHUNK = 64 * 1024
_LONGEST_BEGIN = 64
"""Bytes that are kept of one piece of output, to find the beginning of a line in two."""


class Supervisor:
    """One run: starts its agent, watches it, and ends everything that is left of it."""

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
        self._suspension = Suspension(directory, self._living)
        self._wake_up = signal_pipe(self._cancel)

    def run(self) -> None:
        """Start the agent, see it to its end and record that."""
        become_subreaper()
        self._when_there_is_room(self._record_identity)
        # An agent that would have to be suspended at once is not started yet.
        while self._suspension.is_ordered and not self._cancelled:
            self._sleep(LOOK_SECONDS)
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
        """Write once the disk has room; empty if the run is cancelled first."""
        while not self._is_cancelled():
            try:
                return write()
            except OSError as error:
                if not is_no_room(error):
                    raise
            self._sleep(_ROOM_SECONDS)
        return ""

    def _count_start(self) -> str:
        """Open the output files and count the start; returns when it was."""
        for name, limit in ((STDOUT, OUTPUT_LIMIT), (STDERR, ERROR_OUTPUT_LIMIT)):
            if name not in self._outputs:
                last = self._order.get("last_events", ()) if name == STDOUT else ()
                self._outputs[name] = Output(self._path(name), limit, last)
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
        """Record the end and all output, retrying until the disk takes it: the run was paid for.

        Records that were removed in the meantime are made again.
        """
        ended_at = ended_at or now()
        while True:
            try:
                os.makedirs(self._directory, 0o700, exist_ok=True)
                for output in self._outputs.values():
                    output.finish()
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
        with contextlib.suppress(OSError):  # the agent is also found by its environment
            self._record_identity()

    def _record_identity(self) -> str:
        processes = {"supervisor": os.getpid()}
        if self._agent:
            processes["agent"] = processes["group"] = self._agent.pid
        # Not durable: after a power cut these processes are gone in any case.
        text = json.dumps(identify(**processes))
        write_atomically(self._path(IDENTITY), text, durable=False)
        return text

    def _watch_and_end(self) -> tuple[str, str]:
        try:
            end, reason = self._watch(time.monotonic())
            self._ask_to_end()
        finally:
            left = end_processes(self._living)
        if left:
            reason = f"{reason}; not ours to end: {sorted(left)}".lstrip("; ")
        return end, reason

    def _watch(self, started: float) -> tuple[str, str]:
        """Wait for the agent's exit, a cancellation or the deadline, whichever is first."""
        recheck: float | None = None
        while True:
            self._reap()
            if self._exit_code is not None:
                return _exit(self._exit_code, was_suspended=recheck is not None)
            if self._cancelled:
                return "cancelled", "cancelled"
            recheck = self._suspension.apply()
            allowed = self._deadline() + self._order["grace_seconds"]
            left = started + allowed + self._suspension.seconds - time.monotonic()
            if left <= 0 and recheck is None:
                return "timed_out", _timeout_reason(allowed, self._suspension.seconds)
            if self._lingers() and recheck is None:
                linger = self._order["linger_seconds"]
                return "timed_out", f"ended {linger:g} s after its last line: it hung"
            if self._outputs[STDOUT].said_last is not None:
                left = min(left, LOOK_SECONDS)
            self._sleep(min(left, _LONGEST_WAIT_SECONDS) if recheck is None else recheck)

    def _ask_to_end(self) -> None:
        """Ask the agent to end as its program wants to be asked: it may have something to say."""
        for name, target, seconds in self._order.get("stop", ()):
            if self._agent is None or self._exit_code is not None:
                return
            self._suspension.lift()
            with contextlib.suppress(ProcessLookupError):
                send = os.killpg if target == "group" else os.kill
                send(self._agent.pid, signal.Signals[name])
            until = time.monotonic() + seconds
            while self._exit_code is None and time.monotonic() < until:
                self._sleep(until - time.monotonic())
                self._reap()

    def _sleep(self, seconds: float) -> None:
        """Wait for a signal, but no longer than that; pass on what the agent prints meanwhile.

        Once the agent's last line is seen, no wait is long any more.
        """
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
            if left > LOOK_SECONDS and any(output.said_last for output in outputs):
                return

    def _pump(self) -> None:
        for output in self._outputs.values():
            output.pump()
            with contextlib.suppress(OSError):
                output.flush()

    def _lingers(self) -> bool:
        """Whether the program has said its last line long ago and does not exit."""
        said = self._outputs[STDOUT].said_last
        return said is not None and time.monotonic() - said >= self._order["linger_seconds"]

    def _deadline(self) -> float:
        """What the file says, or last said."""
        with contextlib.suppress(OSError, ValueError), open(self._path(DEADLINE)) as file:
            self._allowed = float(file.read())
        return self._allowed

    def _reap(self) -> None:
        for pid, exit_code in reap().items():
            if self._agent and pid == self._agent.pid:
                self._exit_code = self._agent.returncode = exit_code
                self._ended_at = now()

    def _living(self) -> set[int]:
        self._reap()
        self._pump()  # a process that is being ended must not hang on a full pipe
        return living_below_us(self._agent.pid if self._agent else None)


def _timeout_reason(allowed: float, suspended: float) -> str:
    reason = f"ended {allowed:g} s after its start: deadline and grace"
    return f"{reason}, not counting {suspended:.0f} s of suspension" if suspended else reason


def _exit(exit_code: int, *, was_suspended: bool) -> tuple[str, str]:
    """How it ended, and why; a stopped process cannot exit by itself, so it was killed."""
    if exit_code >= 0:
        return "exited", ""
    reason = f"ended by {signal.Signals(-exit_code).name}"
    return ("lost", f"{reason} while it was suspended") if was_suspended else ("exited", reason)


class Suspension:
    """Stops every process of a run, and continues them, as the run's records say."""

    def __init__(self, directory: str, living: Callable[[], set[int]]) -> None:
        self._directory = directory
        self._living = living
        self._stopped: set[int] = set()
        self._is_complete = False
        self._since: float | None = None
        self._seconds = 0.0

    @property
    def is_ordered(self) -> bool:
        """Whether the run has to be suspended."""
        return len(suspensions(self._directory)) % 2 == 1

    @property
    def seconds(self) -> float:
        """How long the run was suspended in all: its deadline moves by as much."""
        current = time.monotonic() - self._since if self._since is not None else 0.0
        return self._seconds + current

    def apply(self) -> float | None:
        """Do as the records say; seconds until the next look, None if the run is not suspended."""
        if not self.is_ordered:
            self._resume()
            return None
        if self._since is None:
            self._since = time.monotonic()
        if not self._is_complete:
            self._stop()
        return LOOK_SECONDS if self._is_complete else _SHORT_SECONDS

    def lift(self) -> None:
        """Let everything that was stopped go on: a stopped process acts on no signal."""
        self._resume()

    def _stop(self) -> None:
        """Stop what still runs; complete once nothing does, since a stopped process starts none."""
        running = self._living() - self._stopped
        for pid in sorted(running):
            _send(pid, signal.SIGSTOP)
        self._stopped |= running
        self._is_complete = not running

    def _resume(self) -> None:
        if self._since is None:
            return
        for pid in self._stopped & self._living():
            _send(pid, signal.SIGCONT)
        self._seconds, self._since = self.seconds, None
        self._stopped, self._is_complete = set(), False


def _send(pid: int, number: signal.Signals) -> None:
    """Signal a process of the run; one that changed its user is not ours to stop."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return


class Output:
    """One stream of an agent, passed through a pipe to a file.

    While the disk is full the end of it stays in memory, as much as is ever read back. The agent
    does not notice, and its answer is not lost.
    """

    def __init__(self, path: str, limit: int, last: Sequence[str] = ()) -> None:
        """Open the file for appending. Raises: OSError.

        `last` is how the lines begin that are the agent's last ones.
        """
        self._path = path
        self._limit = limit
        self._last = tuple(b"\n" + begin.encode() for begin in last)
        self._seen = b"\n"
        self.said_last: float | None = None
        """When the last line was seen."""
        self._held = bytearray()
        self._file = _open(path)
        self._readable, self.writable = os.pipe()
        os.set_blocking(self._readable, False)
        self.is_open = True

    def fileno(self) -> int:
        """The descriptor that becomes readable when the agent prints."""
        return self._readable

    @property
    def is_held(self) -> bool:
        """Whether output waits for room on the disk."""
        return bool(self._held)

    def started(self) -> None:
        """Close our copy of the writing end: the agent has its own now."""
        os.close(self.writable)

    def pump(self) -> None:
        """Read what the agent has printed, and write what there is room for."""
        while self.is_open:
            try:
                data = os.read(self._readable, _CHUNK)
            except BlockingIOError:
                return
            self.is_open = bool(data)
            self._held += data
            if self._last:
                self._look_for_last(data)
            with contextlib.suppress(OSError):
                self.flush()
            del self._held[: -self._limit]

    def _look_for_last(self, data: bytes) -> None:
        text = self._seen + data
        if any(begin in text for begin in self._last):
            self.said_last = time.monotonic()
        self._seen = text[-_LONGEST_BEGIN:]

    def flush(self) -> None:
        """Write what is held in memory. Raises: OSError if the disk does not take it."""
        while self._held:
            written = os.write(self._file, self._held[:_CHUNK])
            del self._held[:written]

    def finish(self) -> None:
        """Write all output, and the file again if it was removed. Raises: OSError if not yet."""
        self.pump()
        if not _is_at(self._path, self._file):
            self._file = _copied(self._file, self._path)
        self.flush()


def _open(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _is_at(path: str, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _copied(file: int, path: str) -> int:
    """A new file at that path with the content of the removed one. Raises: OSError."""
    copy, position = _open(path), 0
    try:
        os.ftruncate(copy, 0)
        while data := os.pread(file, _CHUNK, position):
            position += os.write(copy, data)
    except OSError:
        os.close(copy)
        raise
    os.close(file)
    return copy


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
    """Supervise the run with those records, unless it is or was supervised."""
    directory = arguments[0]
    if not hold_lock(directory, int(arguments[1]) if len(arguments) > 1 else None):
        sys.stderr.write("Another supervisor holds this run.\n")
        return REFUSED
    if any(os.path.exists(os.path.join(directory, name)) for name in (STARTED, EXIT)):
        sys.stderr.write("This run was started before.\n")
        return REFUSED
    Supervisor(directory).run()
    return 0
