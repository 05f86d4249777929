"""Commands of builds, each under a supervisor: ended completely, found again after a crash."""

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from time import monotonic

from adapters.files import write_atomically
from adapters.locks import path_key
from adapters.processes import (
    END_GRACE_SECONDS,
    Identity,
    end_processes,
    identify,
    leftovers,
    recorded_process,
    signal_recorded,
)
from adapters.programs import exited, running
from pipeline.errors import TransientError

BUILD_VARIABLE = "AGOG_BUILD_DIR"
"""Holds the checkout in every process of a build, which is so found without its supervisor."""

PATIENCE_SECONDS = END_GRACE_SECONDS + 5.0
"""After this a supervisor that was asked to end its command is killed."""
END_SECONDS = 10.0
"""Processes that outlived their supervisor must be gone by then. One that hangs in the kernel is
reported."""

_POLL_SECONDS = 0.05
_ENTRY = str(Path(__file__).parents[1] / "supervise.py")


class BuildProcesses:
    """Builds of a state directory, at most one per checkout, each recorded while it runs."""

    def __init__(self, home: Path) -> None:
        self._records = home / "builds" / "running"

    async def run(
        self,
        checkout: Path,
        command: Sequence[str],
        directory: Path,
        environment: Mapping[str, str],
        log: Path,
        printed: Path | None = None,
    ) -> int:
        """Run a command of the checkout's build; its exit code, negative for a signal.

        Both streams are appended to the log, standard output to `printed` if that is given.
        Whatever the command leaves running has ended when this returns, also when it is cancelled.

        Raises: OSError if the program cannot be started, TransientError if it was ended from
        outside, or if one of its processes cannot be ended.
        """
        given = {**environment, BUILD_VARIABLE: str(checkout)}
        order = {
            "argv": list(command),
            "directory": str(directory),
            "log": str(log),
            "output": str(printed or log),
            "variables": sorted(given),
        }
        with log.open("ab") as output:
            start = asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", _ENTRY, "build", json.dumps(order),
                stdin=PIPE, stdout=PIPE, stderr=output, env=given, start_new_session=True,
            )  # fmt: skip
            async with running(start, partial(self._let_go, checkout)) as supervisor:
                record = self._path(checkout)
                record.parent.mkdir(parents=True, exist_ok=True)
                text = json.dumps(identify(supervisor=supervisor.pid))
                write_atomically(record, text, durable=False)
                # It is a pipe; the types do not tell.
                assert supervisor.stdout is not None
                answer = await supervisor.stdout.read()
        return _exit_code(command, answer)

    async def end(self, checkout: Path) -> None:
        """End whatever the checkout's build left running, also for a worker that died.

        Raises: TransientError if a process cannot be ended.
        """
        record = self._path(checkout)
        # A worker may have died before it recorded the build, which is then found by its variable.
        identity: Identity = json.loads(record.read_text()) if record.exists() else {}
        asked_at = monotonic()
        while (stat := recorded_process(identity, "supervisor")) and stat.is_living:
            patient = monotonic() - asked_at < PATIENCE_SECONDS
            number = signal.SIGTERM if patient else signal.SIGKILL
            signal_recorded(identity, "supervisor", number)
            await asyncio.sleep(_POLL_SECONDS)
        left = await asyncio.to_thread(
            end_processes,
            lambda: leftovers(BUILD_VARIABLE, str(checkout), identity),
            END_SECONDS,
        )
        if left:
            pids = ", ".join(map(str, sorted(left)))
            raise TransientError(f"Processes {pids} of the build in {checkout} cannot be ended.")
        record.unlink(missing_ok=True)

    async def _let_go(self, checkout: Path, supervisor: Process) -> None:
        """Let the supervisor end all that is left of the build, and make sure that it did."""
        assert supervisor.stdin is not None
        supervisor.stdin.close()
        try:
            await asyncio.wait_for(exited(supervisor), PATIENCE_SECONDS)
        except TimeoutError:
            supervisor.kill()
            await exited(supervisor)
        await self.end(checkout)

    def _path(self, checkout: Path) -> Path:
        return self._records / f"{path_key(checkout)}.json"


def _exit_code(command: Sequence[str], answer: bytes) -> int:
    if not answer:
        raise TransientError(f"The supervisor of {command[0]} was killed: the build is repeated.")
    ended = json.loads(answer)
    if "errno" in ended:
        raise OSError(ended["errno"], ended["error"] or os.strerror(ended["errno"]))
    if ended["left"]:
        raise TransientError(f"Processes {ended['left']} of {command[0]} are not ours to end.")
    if ended["exit_code"] is None:
        raise TransientError(f"{command[0]} was ended from outside: the build is repeated.")
    code: int = ended["exit_code"]
    return code
