"""Which coding agents' programs are on this host, in which version, and whether they can log in.

Every probe is a short command that asks no model: bounded in time, without a terminal, in an empty
directory, so that nothing of a repository is read. Measured on Claude Code 2.1.197, Codex 0.171.0
and Gemini CLI 0.61.0. `claude doctor` is not used: it never ends without a terminal.
"""

import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import MappingProxyType

PROBE_SECONDS = 30.0
"""Gemini CLI needs four seconds to tell its version on an idle machine, and more on a busy one."""
_VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "GEMINI_CLI_NO_RELAUNCH": "1",
    }
)
"""So that a probe updates nothing and stays one process."""
_OUTPUT_BYTES = 64 * 1024


@dataclass(frozen=True)
class Answer:
    """What a probe has said; no exit code means that it did not end in time, or did not start."""

    code: int | None
    text: str


@dataclass(frozen=True)
class Asked:
    """Asks one program, with the environment that an agent's would come from."""

    path: str
    environment: Mapping[str, str]
    directory: Path

    def __call__(self, *arguments: str) -> Answer:
        """Run it to its end, or end it and all of its group."""
        with TemporaryFile() as output:
            try:
                process = subprocess.Popen(
                    [self.path, *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    cwd=self.directory,
                    env={**self.environment, **_VARIABLES},
                    start_new_session=True,
                )
            except OSError as error:
                return Answer(None, error.strerror or str(error))
            code = _end_of(process)
            output.seek(0)
            return Answer(code, output.read(_OUTPUT_BYTES).decode("utf-8", "replace"))

    def has(self, *names: str) -> bool:
        """Whether one of these variables is set."""
        return any(self.environment.get(name) for name in names)


def _end_of(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        return None
    finally:
        # What it has started ends with it.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
