"""A process of the stack: its own session, its own log, and a record that outlives us.

The record lets the next `up` find, and end, what a killed one has left behind.
"""

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterable, Mapping
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


async def _end_recorded(path: Path) -> bool:
    """End the process of one record; False if it is dead and only the record was left."""
    process, stop_signal = _recorded(path)
    if process:
        await _end(process, stop_signal)
    _forget(path)
    return process is not None


def _recorded(path: Path) -> tuple[psutil.Process | None, signal.Signals]:
    record = json.loads(path.read_text(encoding="utf-8"))
    stop_signal = signal.Signals(record.pop("stop_signal"))
    return ProcessIdentity(**record).process(), stop_signal


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)


async def _end(process: psutil.Process, stop_signal: signal.Signals) -> None:
    """Signal and wait; past the bound, kill its whole process group."""
    try:
        process.send_signal(stop_signal)
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
