"""Runs with a process: a supervisor each, found again by the lock that it holds.

A lock that was removed says nothing: before a run is started, and before one counts as lost, its
supervisor is looked for among the processes.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from adapters.processes import (
    all_pids,
    end_processes,
    identify,
    recorded_process,
    signal_recorded,
)
from adapters.processes import leftovers as leftovers_of
from adapters.runs import records
from adapters.runs.directory import RunDirectory, RunRecord
from adapters.runs.looks import Ended, Fresh, Living, Look
from pipeline.model import RunEnd

SUPERVISOR_LOG = "supervisor.log"
"""Empty, unless a supervisor broke."""

RUN_DIRECTORY_VARIABLE = "AGOG_RUN_DIR"
"""Every process of a run has this variable from its agent, a daemon in its own session too."""

_ENTRY = str(Path(__file__).parents[1] / "supervise.py")
_LOCK_FD = 3
_GONE = "Its agent was started, and nothing of that run is left: neither process nor output."
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)


class SupervisedRuns:
    """Starts, finds and ends supervisors. Every method may block."""

    def __init__(self) -> None:
        self._children: set[int] = set()
        self._survivors: dict[Path, dict[str, Any]] = {}
        """Supervisors that were found without any record of theirs, by the path of the records."""

    def start(
        self,
        run: RunDirectory,
        record: RunRecord,
        prompt: str,
        environment: Mapping[str, str],
        started_at: datetime | None = None,
    ) -> bool:
        """Start the run's supervisor; False if there is or was one, or the run was cancelled.

        What is known to have `started_at` some time is not started again: it is looked for, and
        where nothing of it is left, that is how it ended.
        """
        with run.locked() as lock:
            before = (records.STARTED, records.EXIT, records.CANCELLED)
            if lock is None or any(map(run.has, before)):
                return False
            # Before its first start a run has no directory, and no supervisor to be looked for.
            if (started_at or run.path.exists()) and self._survives(run):
                self._order_again(run, record)
                return False
            if started_at:
                self._order_again(run, record)
                self._settle(run, RunEnd.GONE, _GONE, started_at)
                return False
            run.create()
            run.write_deadline(record.deadline_seconds)
            run.write_order(record)
            run.file(records.PROMPT).write_text(prompt, encoding="utf-8")
            self._children.add(_spawn(run, lock, environment))
            return True

    def _order_again(self, run: RunDirectory, record: RunRecord) -> None:
        """Record what it was started on, for whoever merges what it did."""
        if not run.has(records.ORDER):
            run.write_order(record)

    def look(self, run: RunDirectory) -> Look:
        """Where the run stands. What outlived its supervisor is ended and recorded as lost."""
        self._reap()
        if run.has(records.EXIT):
            return Ended()
        with run.locked() as lock:
            if lock is None:
                return Living(process=run.identity().get("supervisor"))
            if run.has(records.EXIT):
                return Ended()
            if living := self._unlocked(run):
                return living
            if run.has(records.CANCELLED):
                self._settle(run, RunEnd.CANCELLED, "cancelled")
                return Ended()
            if run.has(records.STARTED):
                self._settle(run, RunEnd.LOST, "its supervisor was killed; the rest was ended")
                return Ended()
            return Fresh()

    def try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        """Pass the wish on to the supervisor, or end the run in its place if there is none."""
        self._reap()
        run.create()
        with suppress(OSError):  # the signal does without, and a full disk must not save the run
            run.file(records.CANCELLED).touch()
        with run.locked() as lock:
            if lock is None or self._unlocked(run):
                signal_supervisor(run, asking)
                return False
            if not run.has(records.EXIT):
                self._settle(run, RunEnd.CANCELLED, "cancelled")
            return True

    def give_up(self, run: RunDirectory) -> None:
        """Record that the supervisor ended before it came to start the agent."""
        with run.locked() as lock:
            if lock is not None and not run.has(records.EXIT) and not self._survives(run):
                log = run.file(SUPERVISOR_LOG)
                self._settle(run, RunEnd.LOST, f"its supervisor could not start; see {log}")

    def _unlocked(self, run: RunDirectory) -> Living | None:
        """The run's supervisor, if it lives although nobody holds the lock: that was removed."""
        identity = self._survivors.get(run.records_path) or run.identity()
        stat = recorded_process(identity, "supervisor")
        if stat is None or not stat.is_living:
            return None
        return Living(process=identity["supervisor"])

    def _survives(self, run: RunDirectory) -> bool:
        """Whether a supervisor lives of which there is no record; then there is one again."""
        pid = _find_supervisor(run)
        if pid is None:
            return False
        identity = identify(supervisor=pid)
        self._survivors[run.records_path] = identity
        began = datetime.fromtimestamp(Path(f"/proc/{pid}").stat().st_mtime, UTC)
        records.write_atomically(str(run.file(records.IDENTITY)), json.dumps(identity))
        records.count_start(str(run.records_path), at=began.isoformat())
        return True

    def _settle(
        self, run: RunDirectory, end: RunEnd, reason: str, started_at: datetime | None = None
    ) -> None:
        left = end_processes(lambda: leftovers(run))
        if left:
            reason = f"{reason}; not ours to end: {sorted(left)}"
        run.write_exit(end, reason, started_at=started_at)

    def _reap(self) -> None:
        """Collect supervisors that have ended: a zombie would look like a living process."""
        for pid in tuple(self._children):
            ended = pid
            with suppress(ChildProcessError):
                ended, _ = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._children.discard(pid)


def _find_supervisor(run: RunDirectory) -> int | None:
    """A living supervisor of the run, by what it was started with."""
    wanted = (os.fsencode(_ENTRY), b"run", os.fsencode(run.records_path))
    for pid in all_pids():
        with suppress(OSError):  # it ended meanwhile
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                argv = file.read().split(b"\0")
            if tuple(argv[3:6]) == wanted:
                return pid
    return None


def leftovers(run: RunDirectory) -> set[int]:
    """Living processes of a run whose supervisor is gone."""
    return leftovers_of(RUN_DIRECTORY_VARIABLE, str(run.path), run.identity())


def signal_supervisor(run: RunDirectory, number: signal.Signals) -> None:
    """Send a signal to the run's supervisor, if that process is still the one recorded."""
    signal_recorded(run.identity(), "supervisor", number)


def _spawn(run: RunDirectory, lock: int, environment: Mapping[str, str]) -> int:
    """A supervisor in a session of its own, with the agent's environment and the run's lock.

    `posix_spawn` rather than `subprocess`: the process is meant to outlive the object.
    """
    log = str(run.file(SUPERVISOR_LOG))
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", _ENTRY, "run", str(run.records_path), str(_LOCK_FD)],
        environment,
        file_actions=[
            # First: opening the log may take the number that the lock has.
            (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, write, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )
