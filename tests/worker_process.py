"""`worker.py` as a process that a test starts, kills and stops."""

import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.eventually import PATIENCE_SECONDS, eventually
from tests.prefork import Program

WORKER = Path(__file__).parent.parent / "worker.py"


class WorkerProcess:
    """At most one worker of one environment at a time; each has a log of its own."""

    def __init__(
        self, environment: Mapping[str, str], directory: Path, arguments: Sequence[str] = ()
    ) -> None:
        self._environment = environment
        self._directory = directory
        self._arguments = arguments
        self._process: Program | None = None
        self._logs: list[Path] = []

    async def start(self, **changes: str) -> None:
        """Start one and wait until it serves its queues."""
        log = self._next_log()
        process = self._spawn(log, {**self._environment, **changes})
        await eventually(
            lambda: process.poll() is not None or "is ready" in log.read_text(), "a ready worker"
        )
        assert process.poll() is None, log.read_text()

    async def refuses(self, **changes: str) -> int:
        """Start one that cannot serve; its exit code."""
        self._spawn(self._next_log(), {**self._environment, **changes})
        return await self.ended()

    async def ended(self) -> int:
        """Wait until it has ended by itself; its exit code."""
        process = self._process
        assert process
        await eventually(lambda: process.poll() is not None, "the end of the worker")
        self._process = None
        assert process.returncode is not None
        return process.returncode

    def kill(self) -> None:
        """Kill it the hard way."""
        self._signal(signal.SIGKILL)

    def stop(self) -> int:
        """Stop it politely; its exit code."""
        return self._signal(signal.SIGTERM)

    def close(self) -> None:
        """End it, if it still lives, and print what all of them have logged."""
        if self._process:
            self.kill()
        for log in self._logs:
            sys.stdout.write(f"--- {log.name}\n{log.read_text()}\n")

    @property
    def log(self) -> str:
        """What the workers so far have logged."""
        return "".join(log.read_text() for log in self._logs)

    def _next_log(self) -> Path:
        return self._directory / f"worker-{len(self._logs) + 1}.log"

    def _spawn(self, log: Path, environment: Mapping[str, str]) -> Program:
        assert self._process is None
        self._logs.append(log)
        with log.open("wb") as sink:
            argv = [str(WORKER), *self._arguments]
            self._process = Program(argv, environment, self._directory, sink)
        return self._process

    def _signal(self, number: signal.Signals) -> int:
        assert self._process
        self._process.send_signal(number)
        code = self._process.wait(PATIENCE_SECONDS)
        self._process = None
        return code
