"""Supervisor of one command of a build: whatever the command starts ends with it.

It adopts the command's orphans, and lives as long as the worker holds the other end of its standard
input, so a worker that is killed ends its build. It reports on standard output how the command
ended, which needs no disk. Standard library only.
"""

import json
import os
import select
import subprocess
import sys
from contextlib import suppress
from typing import Any

from adapters.processes import (
    become_subreaper,
    end_processes,
    living_below_us,
    reap,
    signal_pipe,
    start_of_command,
)

_LIFELINE, _ANSWER = 0, 1


class BuildSupervisor:
    """One command, from its start to the end of everything that it started."""

    def __init__(self, order: dict[str, Any]) -> None:
        """Take what to run: `argv`, `directory`, `log`, `output` and names of its `variables`."""
        self._order = order
        self._command: subprocess.Popen[bytes] | None = None
        self._exit_code: int | None = None
        self._is_over = False
        self._wake_up = signal_pipe(self._stop)

    def run(self) -> dict[str, Any]:
        """Run the command; returns how it ended."""
        become_subreaper()
        try:
            self._start()
        except OSError as error:
            return {"errno": error.errno, "error": error.strerror}
        try:
            self._watch()
        finally:
            left = end_processes(self._living)
        return {"exit_code": self._exit_code, "left": sorted(left)}

    def _start(self) -> None:
        argv = start_of_command(self._order["argv"], self._order["variables"])
        with open(self._order["log"], "ab") as log, open(self._order["output"], "ab") as output:
            self._command = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                cwd=self._order["directory"],
                process_group=0,
            )

    def _watch(self) -> None:
        """Wait for the command's exit, a signal, or the end of the worker."""
        while not self._is_over:
            self._reap()
            if self._exit_code is not None:
                return
            readable, _, _ = select.select([self._wake_up, _LIFELINE], [], [])
            with suppress(BlockingIOError):
                os.read(self._wake_up, 4096)
            if _LIFELINE in readable and not os.read(_LIFELINE, 4096):
                return

    def _stop(self) -> None:
        self._is_over = True

    def _reap(self) -> None:
        for pid, exit_code in reap().items():
            if self._command and pid == self._command.pid:
                self._exit_code = self._command.returncode = exit_code

    def _living(self) -> set[int]:
        self._reap()
        return living_below_us(self._command.pid if self._command else None)


def main(arguments: list[str]) -> int:
    """Supervise the command of that order, a JSON object."""
    answer = BuildSupervisor(json.loads(arguments[0])).run()
    with suppress(BrokenPipeError):  # the worker is gone
        os.write(_ANSWER, json.dumps(answer).encode())
        sys.stdout = None
    return 0
