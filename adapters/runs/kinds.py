"""The ways to run an agent: what each is started with, how its status is found, how it is ended.

A *supervised* run has a process: a supervisor, found again by the lock that it holds. A removed
lock proves nothing, so the process table is searched before a run is started and before one counts
as lost. A *simulated* run has only a start time and a length; a restart waits for the rest.
"""

import json
import math
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapters.files import make_private_directory, write_atomically
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
from adapters.runs.resources import RunResources
from pipeline.agents_file import CommandAgent, SimulatedAgent
from pipeline.model import RunEnd, RunOrder
from pipeline.verdicts import green_notice

_NO_FILES: Mapping[str, str] = MappingProxyType({})

COMMAND, SIMULATED = "command", "simulated"

MINUTE = timedelta(minutes=1)

PASSED_ON = ("PATH", "HOME", "LANG", "TERM")
"""Variables that every agent inherits unchanged (design, section 6)."""

RUN_DIRECTORY_VARIABLE = "AGOG_RUN_DIR"
"""Set for the agent and inherited by every process of the run, also by a daemon in a session of
its own."""

SUPERVISOR_LOG = "supervisor.log"
"""Empty unless a supervisor crashed."""

_ENTRY = str(Path(__file__).parents[1] / "supervise.py")
_LOCK_FD = 3
_PORTS_FD = 4
"""What a supervisor holds as long as it lives: the run's lock, and its block of ports."""
_GONE = "Its agent was started, and nothing of that run is left: neither process nor output."
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD)


@dataclass(frozen=True)
class Fresh:
    """Nothing was started, and nothing is about to be."""


@dataclass(frozen=True)
class Living:
    """It runs until the process with that id ends, or for that many seconds."""

    process: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Ended:
    """Its end is recorded."""


Status = Fresh | Living | Ended


# --- processes ------------------------------------------------------------------------------------


def command_environment(
    agent: CommandAgent, order: RunOrder, run: RunDirectory, environment: Mapping[str, str]
) -> dict[str, str]:
    """The agent's whole environment: the contract's variables and those that its file lets through.

    The contract's variables win.
    """
    return environment_of((*PASSED_ON, *agent.environment), {}, order, run, environment)


def environment_of(
    names: Iterable[str],
    given: Mapping[str, str],
    order: RunOrder,
    run: RunDirectory,
    environment: Mapping[str, str],
) -> dict[str, str]:
    """The named variables of the worker's, those that are given, and over them the contract's.

    Bytecode that an agent's tests leave beside the sources would be merged, where no ignore file
    names it.
    """
    return {
        "PYTHONDONTWRITEBYTECODE": "1",
        **{name: environment[name] for name in names if name in environment},
        **given,
        "AGOG_REQUIREMENT": order.number,
        "AGOG_STAGE": order.stage,
        "AGOG_AGENT": order.agent,
        "AGOG_ATTEMPT": str(order.attempt),
        "AGOG_WORKTREE": order.worktree or str(run.path),
        "AGOG_OUTBOX": str(run.outbox),
        RUN_DIRECTORY_VARIABLE: str(run.path),
    }


def command_record(
    agent: CommandAgent, order: RunOrder, run: RunDirectory, variables: Mapping[str, str]
) -> RunRecord:
    """What the supervisor must know to start the agent."""
    return RunRecord(
        run_id=order.run_id,
        kind=COMMAND,
        agent=order.agent,
        head=(order.head.commit, order.head.position) if order.head else None,
        directory=order.worktree or str(run.path),
        deadline_seconds=order.deadline.total_seconds(),
        grace_seconds=order.grace.total_seconds(),
        minute_seconds=60.0,
        argv=agent.command,
        variables=tuple(sorted(variables)),
    )


class SupervisedRuns:
    """Starts, finds and ends supervisors. Every method may block."""

    def __init__(self) -> None:
        self._children: set[int] = set()
        self._survivors: dict[Path, dict[str, Any]] = {}
        """Supervisors that were found after their records were removed, by the records' path."""

    def start(
        self,
        run: RunDirectory,
        record: RunRecord,
        prompt: str,
        environment: Mapping[str, str],
        started_at: datetime | None = None,
        files: Mapping[str, str] = _NO_FILES,
        *,
        resources: RunResources,
    ) -> bool:
        """Start the run's supervisor; False if there is or was one, or the run was cancelled.

        `files` are written into the agent's directory first. It is given `resources` of its own,
        which are those of the whole run.

        A run that is known to have `started_at` some time is never started again. It is searched
        for; if nothing of it is left, it is recorded as gone.
        """
        with run.locked() as lock:
            before = (records.STARTED, records.EXIT, records.CANCELLED)
            if lock is None or any(map(run.has, before)):
                return False
            # Before its first start a run has no directory, and so no supervisor to search for.
            if started_at or run.path.exists():
                if self._survives(run):
                    _restore_order(run, record)
                    return False
                if run.has(records.EXIT):
                    return False  # it has ended while it was searched for
            if started_at:
                _restore_order(run, record)
                _end(run, RunEnd.GONE, _GONE, started_at)
                return False
            run.create()
            # Codex's sandbox needs it. An agent that is asked once more may have removed it, or
            # have made something else of it.
            with suppress(FileExistsError):
                make_private_directory(run.outbox.parent)
                make_private_directory(run.outbox)
            run.write_deadline(record.deadline_seconds)
            run.write_order(record)
            run.file(records.PROMPT).write_text(prompt, encoding="utf-8")
            for name, text in files.items():
                run.path.joinpath(name).write_text(text, encoding="utf-8")
            key = run.first.run_id
            given = {**environment, **resources.take(key)}
            self._children.add(_spawn(run, lock, resources.guard(key), given))
            resources.hand_over(key)
            return True

    def look(self, run: RunDirectory) -> Status:
        """The run's status. Whatever outlived its supervisor is ended and recorded as lost."""
        self._reap()
        if run.has(records.EXIT):
            return Ended()
        with run.locked() as lock:
            if lock is None:
                return Living(process=run.identity().get("supervisor"))
            # In this order: a supervisor records the end, and then ends.
            living = self._unlocked(run)
            if run.has(records.EXIT):
                return Ended()
            if living:
                return living
            if run.has(records.CANCELLED):
                _end(run, RunEnd.CANCELLED, "cancelled")
                return Ended()
            if run.has(records.STARTED):
                _end(run, RunEnd.LOST, "its supervisor was killed; the rest was ended")
                return Ended()
            return Fresh()

    def try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        """Signal the supervisor, or end the run here if there is none; whether the end is recorded.

        May have to be repeated until it is.
        """
        self._reap()
        run.create()
        with suppress(OSError):  # the signal works without it, and a full disk must not save a run
            run.file(records.CANCELLED).touch()
        with run.locked() as lock:
            if lock is None or self._unlocked(run):
                signal_supervisor(run, asking)
                return False
            if run.has(records.EXIT):
                return True
            if run.number > 1 and not run.has(records.ORDER):
                # Nothing of it was started, and the part before it may live in the same directory.
                run.write_exit(RunEnd.CANCELLED, "cancelled")
            else:
                _end(run, RunEnd.CANCELLED, "cancelled")
            return True

    def give_up(self, run: RunDirectory) -> None:
        """Record that the supervisor ended before it started the agent."""
        with run.locked() as lock:
            if lock is not None and not self._survives(run) and not run.has(records.EXIT):
                log = run.file(SUPERVISOR_LOG)
                _end(run, RunEnd.LOST, f"its supervisor could not start; see {log}")

    def _unlocked(self, run: RunDirectory) -> Living | None:
        """The run's supervisor if it lives although nobody holds the lock, which was removed."""
        identity = self._survivors.get(run.records_path) or run.identity()
        stat = recorded_process(identity, "supervisor")
        if stat is None or not stat.is_living:
            return None
        return Living(process=identity["supervisor"])

    def _survives(self, run: RunDirectory) -> bool:
        """Whether an unrecorded supervisor of the run lives; if so, record it again."""
        pid = _find_supervisor(run)
        if pid is None:
            return False
        identity = identify(supervisor=pid)
        try:
            began = datetime.fromtimestamp(Path(f"/proc/{pid}").stat().st_mtime, UTC)
        except FileNotFoundError:
            return False  # it has ended since
        self._survivors[run.records_path] = identity
        write_atomically(run.file(records.IDENTITY), json.dumps(identity))
        records.count_start(str(run.records_path), began.isoformat())
        return True

    def _reap(self) -> None:
        """Collect supervisors that have ended: a zombie would look like a living process."""
        for pid in tuple(self._children):
            ended = pid
            with suppress(ChildProcessError):
                ended, _ = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._children.discard(pid)


def leftovers(run: RunDirectory) -> set[int]:
    """Living processes of a run whose supervisor is gone."""
    return leftovers_of(RUN_DIRECTORY_VARIABLE, str(run.path), run.identity())


def signal_supervisor(run: RunDirectory, number: signal.Signals) -> None:
    """Signal the run's supervisor, if the recorded process still is that one."""
    signal_recorded(run.identity(), "supervisor", number)


def _restore_order(run: RunDirectory, record: RunRecord) -> None:
    """Record again what the run was started on: its result is merged by that."""
    if not run.has(records.ORDER):
        run.write_order(record)


def _end(run: RunDirectory, end: RunEnd, reason: str, started_at: datetime | None = None) -> None:
    """End every process that is left of the run, and record its end."""
    left = end_processes(lambda: leftovers(run))
    if left:
        reason = f"{reason}; not ours to end: {sorted(left)}"
    run.write_exit(end, reason, started_at=started_at)


def _find_supervisor(run: RunDirectory) -> int | None:
    """A living supervisor of the run, recognised by its command line."""
    wanted = (os.fsencode(_ENTRY), b"run", os.fsencode(run.records_path))
    for pid in all_pids():
        with suppress(OSError):  # it ended meanwhile
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                argv = file.read().split(b"\0")
            if tuple(argv[3:6]) == wanted:
                return pid
    return None


def _spawn(run: RunDirectory, lock: int, ports: int, environment: Mapping[str, str]) -> int:
    """Start a supervisor in its own session, with the agent's environment, the lock and the ports.

    `posix_spawn` rather than `subprocess`: the process is meant to outlive the object.
    """
    log = str(run.file(SUPERVISOR_LOG))
    write = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return os.posix_spawn(
        sys.executable,
        [sys.executable, "-I", "-S", _ENTRY, "run", str(run.records_path), str(_LOCK_FD)],
        environment,
        file_actions=[
            # First: opening the log may take the lock's descriptor number.
            (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
            (os.POSIX_SPAWN_DUP2, ports, _PORTS_FD),
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, write, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigmask=(),
        setsigdef=_DEFAULT_SIGNALS,
    )


# --- simulations ----------------------------------------------------------------------------------


def simulated_record(
    agent: SimulatedAgent, order: RunOrder, run: RunDirectory, minute_seconds: float
) -> RunRecord:
    """How long the run takes, and what it answers.

    The answer is its role's green notice with the agents file's keys on top, fenced as an agent
    prints it.
    """
    minutes = order.minutes if agent.minutes is None else agent.minutes
    notice = {**green_notice(order.member, order.number), **agent.notice}
    return RunRecord(
        run_id=order.run_id,
        kind=SIMULATED,
        agent=order.agent,
        head=(order.head.commit, order.head.position) if order.head else None,
        directory=order.worktree or str(run.path),
        deadline_seconds=order.deadline / MINUTE * minute_seconds,
        grace_seconds=order.grace / MINUTE * minute_seconds,
        minute_seconds=minute_seconds,
        seconds=minutes * minute_seconds,
        output=f"```json\n{json.dumps(notice, ensure_ascii=False, indent=2)}\n```\n",
    )


class SimulatedRuns:
    """Runs without a process. Nothing is made durable: a power cut loses no paid work."""

    def start(self, run: RunDirectory, record: RunRecord, prompt: str) -> bool:
        """Start the run's clock; False if it was started or cancelled before."""
        run.create()
        if run.has(records.STARTED) or run.has(records.EXIT):
            return False
        run.write_order(record)
        run.file(records.PROMPT).write_text(prompt, encoding="utf-8")
        try:
            with run.file(records.STARTED).open("x", encoding="utf-8") as file:
                file.write(f"{records.now()}\n")
        except FileExistsError:
            return False
        return True

    def look(self, run: RunDirectory) -> Status:
        """The run's status. The first look that sees it over records its end."""
        if run.has(records.EXIT):
            return Ended()
        record, starts = run.order(), run.starts()
        if record is None or not starts:
            return Fresh()
        if run.is_suspended:
            return Living(seconds=math.inf)
        allowed = run.deadline_seconds(record) + record.grace_seconds
        now = datetime.now(UTC)
        lasts = timedelta(seconds=min(record.seconds, allowed)) + run.suspended_time(now)
        due = starts[0] + lasts
        left = (due - now).total_seconds()
        if left > 0:
            return Living(seconds=left)
        is_late = record.seconds > allowed
        if not is_late:
            run.file(records.STDOUT).write_text(record.output, encoding="utf-8")
        records.write_exit(
            str(run.records_path),
            RunEnd.TIMED_OUT if is_late else RunEnd.EXITED,
            exit_code=None if is_late else 0,
            started_at=starts[0].isoformat(),
            ended_at=due.isoformat(),
            reason="ended at its deadline and grace" if is_late else "",
            durable=False,
        )
        return Ended()

    def try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        """Record the run as cancelled; there is no process to signal."""
        if not run.has(records.EXIT):
            run.create()
            run.write_exit(RunEnd.CANCELLED, "cancelled", durable=False)
        return True
