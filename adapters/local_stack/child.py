"""A process of the stack: its own session, its own log, and a record that outlives us.

The record lets the next `up` find and end what a killed one has left behind. Unlike
`adapters/processes.py` this identifies processes with psutil, so also where there is no /proc.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from adapters.files import PRIVATE_FILE, make_private_directory, read_tail, write_atomically
from adapters.processes import boot_identity

STOP_SECONDS = 10.0
"""From the stop signal to SIGKILL: a database that checkpoints needs seconds, not more."""

_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.05
_ON_PURPOSE = ".ended"
"""Suffix of a note beside the record: the id of the process that was ended on purpose."""


@dataclass(frozen=True)
class ChildSpec:
    """What to run: `env` is its whole environment, `name` that of its log and its record."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    stop_signal: signal.Signals = signal.SIGTERM


class Child:
    """One process at a time of one spec, under one state directory."""

    def __init__(self, spec: ChildSpec, home: Path) -> None:
        """Log to `<home>/logs/<name>.log`; starts nothing yet."""
        self.spec = spec
        self.log = make_private_directory(home / "logs") / f"{spec.name}.log"
        self._record = _record(home, spec.name)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Id of the process last started; 0 before that."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """How the process ended (negative: by that signal); None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def ended_on_purpose(self) -> bool:
        """Whether the process last started was ended on purpose, to be started again."""
        note = self._record.with_suffix(_ON_PURPOSE)
        return note.exists() and note.read_text(encoding="ascii") == str(self.pid)

    def start(self) -> None:
        """Start the process in its own session, out of reach of our terminal's Ctrl-C."""
        rotate(self.log)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.spec.argv,
                env=dict(self.spec.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        identity = identify(self._process.pid)
        if identity:
            record = {**asdict(identity), "stop_signal": int(self.spec.stop_signal)}
            write_atomically(self._record, json.dumps(record), mode=PRIVATE_FILE)

    async def exited(self) -> int:
        """Wait until the process has ended; its exit code."""
        while (code := self.exit_code) is None:  # noqa: ASYNC110 -- the kernel sets no Event
            await asyncio.sleep(_POLL_SECONDS)
        return code

    async def stop(self) -> None:
        """Ask the process to stop, then kill it; nothing to do if it has ended."""
        if self._process and self._process.poll() is None:
            await _end(psutil.Process(self._process.pid), self.spec.stop_signal)
            self._process.wait(_KILL_SECONDS)
        _forget(self._record)


async def stop_leftovers(home: Path, last: Iterable[str]) -> tuple[str, ...]:
    """End what a killed stack left running, the names in `last` last; returns what it ended."""
    order = {name: position for position, name in enumerate(last, start=1)}
    records = sorted(_record(home, "*").parent.glob("*.json"), key=lambda r: order.get(r.stem, 0))
    return tuple([record.stem for record in records if await _end_recorded(record)])


def recorded_process(home: Path, name: str) -> psutil.Process | None:
    """The living process of that name, whoever started it."""
    return _recorded(_record(home, name))[0]


async def end_on_purpose(home: Path, name: str) -> bool:
    """End the process of that name and its children; False if it did not live.

    Its keeper starts it again.
    """
    record = _record(home, name)
    process, stop_signal = _recorded(record)
    if process is None:
        return False
    # Noted before it is done: its keeper may look at the very moment of the end.
    note = record.with_suffix(_ON_PURPOSE)
    write_atomically(note, str(process.pid), mode=PRIVATE_FILE)
    below = process.children(recursive=True)  # those of a killed database may still hold its data
    await _end(process, stop_signal)
    for left in below:
        with suppress(psutil.NoSuchProcess):
            left.kill()
    return True


async def _end_recorded(path: Path) -> bool:
    """End the process of one record; False if it is dead and only the record was left."""
    process, stop_signal = _recorded(path)
    if process:
        await _end(process, stop_signal)
    _forget(path)
    return process is not None


def _recorded(path: Path) -> tuple[psutil.Process | None, signal.Signals]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:  # between two starts
        return None, signal.SIGTERM
    stop_signal = signal.Signals(record.pop("stop_signal"))
    return ProcessIdentity(**record).process(), stop_signal


def _forget(record: Path) -> None:
    record.unlink(missing_ok=True)


async def _end(process: psutil.Process, stop_signal: signal.Signals) -> None:
    """Signal and wait; if it takes too long, kill its whole process group."""
    try:
        process.send_signal(stop_signal)
        process.send_signal(
            signal.SIGCONT
        )  # a stopped process acts on the first signal only once it continues
        if not await _has_ended(process, STOP_SECONDS):
            os.killpg(process.pid, signal.SIGKILL)
            await _has_ended(process, _KILL_SECONDS)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return


async def _has_ended(process: psutil.Process, seconds: float) -> bool:
    deadline = asyncio.get_running_loop().time() + seconds
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        if asyncio.get_running_loop().time() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


def _record(home: Path, name: str) -> Path:
    return make_private_directory(home / "stack") / f"{name}.json"


_CLOCK_TOLERANCE_SECONDS = 1.0


@dataclass(frozen=True)
class ProcessIdentity:
    """A process, told apart from every other that had or will have its id."""

    pid: int
    create_time: float
    """Seconds after boot: the clock may be set while the process runs."""
    boot_id: str
    """Boot and process namespace; empty where the kernel publishes none."""

    def process(self) -> psutil.Process | None:
        """The living process, or None once it is gone or another one has its id."""
        try:
            process = psutil.Process(self.pid)
            is_living = process.status() != psutil.STATUS_ZOMBIE
            drift = abs(_create_time(process) - self.create_time)
        except psutil.NoSuchProcess:
            return None
        is_same = drift < _CLOCK_TOLERANCE_SECONDS and self.boot_id == boot_identity()
        return process if is_living and is_same else None


def identify(pid: int) -> ProcessIdentity | None:
    """The process that has this id now; None if there is none."""
    try:
        return ProcessIdentity(pid, _create_time(psutil.Process(pid)), boot_identity())
    except psutil.NoSuchProcess:
        return None


def _create_time(process: psutil.Process) -> float:
    return float(process.create_time() - psutil.boot_time())


MAX_LOG_BYTES = 10_000_000
"""A log larger than this is set aside when its process starts."""

_TAIL_BYTES = 4_000
_TAIL_LINES = 15


def rotate(log: Path) -> None:
    """Rename a log that is too large to `<name>.1`, replacing the previous one."""
    if log.exists() and log.stat().st_size > MAX_LOG_BYTES:
        log.replace(log.with_name(f"{log.name}.1"))


def log_tail(log: Path) -> str:
    """The last lines of a log; empty if there is none."""
    return "\n".join(read_tail(log, _TAIL_BYTES).splitlines()[-_TAIL_LINES:])
