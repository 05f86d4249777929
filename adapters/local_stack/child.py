"""A process of the stack: its own session, its own log, and a record that outlives us.

The record lets the next `up` find, and end, what a killed one has left behind.
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

from adapters.local_stack import logs
from adapters.local_stack.files import make_private_directory, write_private
from adapters.local_stack.identity import ProcessIdentity, identify

STOP_SECONDS = 10.0
"""From the polite signal to SIGKILL: a database that checkpoints needs seconds, not more."""

_KILL_SECONDS = 5.0
_POLL_SECONDS = 0.05
_ON_PURPOSE = ".ended"
"""Suffix of a note beside the record: the number of the process that was ended on purpose."""


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
        """Number of the process last started; 0 before that."""
        return self._process.pid if self._process else 0

    @property
    def exit_code(self) -> int | None:
        """How the process ended (negative: by that signal); None while it runs."""
        return self._process.poll() if self._process else None

    @property
    def ended_on_purpose(self) -> bool:
        """Whether somebody has ended the process last started to have it started anew."""
        note = self._record.with_suffix(_ON_PURPOSE)
        return note.exists() and note.read_text(encoding="ascii") == str(self.pid)

    def start(self) -> None:
        """Start the process in a session of its own: our terminal's Ctrl-C is not for it."""
        logs.rotate(self.log)
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
            write_private(self._record, json.dumps(record))

    async def exited(self) -> int:
        """Wait for the process's end; its exit code."""
        while (code := self.exit_code) is None:  # noqa: ASYNC110 -- the kernel sets no Event
            await asyncio.sleep(_POLL_SECONDS)
        return code

    async def stop(self) -> None:
        """End the process, politely first; nothing to do if it has ended."""
        if self._process and self._process.poll() is None:
            await _end(psutil.Process(self._process.pid), self.spec.stop_signal)
            self._process.wait(_KILL_SECONDS)
        _forget(self._record)


async def stop_leftovers(home: Path, last: Iterable[str]) -> tuple[str, ...]:
    """End what a killed stack left running, the names in `last` after all others; what it ended."""
    order = {name: position for position, name in enumerate(last, start=1)}
    records = sorted(_record(home, "*").parent.glob("*.json"), key=lambda r: order.get(r.stem, 0))
    return tuple([record.stem for record in records if await _end_recorded(record)])


def recorded_process(home: Path, name: str) -> psutil.Process | None:
    """The living process of that name, whoever has started it."""
    return _recorded(_record(home, name))[0]


async def end_on_purpose(home: Path, name: str) -> bool:
    """End the process of that name and all that it has started; False if it did not live.

    Whoever keeps it starts it anew.
    """
    record = _record(home, name)
    process, stop_signal = _recorded(record)
    if process is None:
        return False
    # Said before it is done: the keeper may look at the very moment of the end.
    write_private(record.with_suffix(_ON_PURPOSE), str(process.pid))
    below = process.children(recursive=True)  # of a killed database some may hold on to its data
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


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _end(process: psutil.Process, stop_signal: signal.Signals) -> None:
    """Signal and wait; past the bound, kill its whole process group."""
    try:
        process.send_signal(stop_signal)
        process.send_signal(signal.SIGCONT)  # one that is stopped hears the other when it goes on
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
