"""How a dependency is restarted: as part of the embedded stack, by a command, or by a human."""

import asyncio
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from adapters.local_stack.restarting import ServerRestarts
from adapters.local_stack.server import Server
from adapters.local_stack.state import is_embedded
from pipeline.errors import DependencyUnavailable

log = logging.getLogger(__name__)

COMMAND_SECONDS = 60.0
"""Then the command and all that it has started are ended."""

_OUTPUT_BYTES = 4_000


@dataclass(frozen=True)
class RestartCommand:
    """What a user has configured: `setting` names it, `argv` is empty where nothing is set.

    `secrets` never reach the log, whatever the command prints.
    """

    setting: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    async def run(self, dependency: str, address: str) -> str:
        """Run it once, without a shell; what was done. Raises: DependencyUnavailable."""
        # A file and no pipe: what the command leaves running may keep its output open.
        with tempfile.TemporaryFile() as output:
            try:
                code = await self._run(output.fileno())
            except OSError as error:  # TimeoutError is one
                said = error.strerror or f"it was ended after {COMMAND_SECONDS:.0f} s"
                raise self._failure(dependency, address, said) from error
            finally:
                output.seek(0)
                self._report(output.read())
        if code:
            raise self._failure(dependency, address, f"exit code {code}")
        return f"{dependency} was restarted by {self.setting}."

    async def _run(self, output: int) -> int:
        process = await asyncio.create_subprocess_exec(
            *self.argv,
            env=dict(self.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        try:
            return await asyncio.wait_for(process.wait(), COMMAND_SECONDS)
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()

    def _report(self, output: bytes) -> None:
        said = output.decode(errors="replace").strip()
        for secret in filter(None, self.secrets):
            said = said.replace(secret, "***")
        if said:
            log.info("%s says: %s", self.setting, said[-_OUTPUT_BYTES:])

    def _failure(self, dependency: str, address: str, reason: str) -> DependencyUnavailable:
        return DependencyUnavailable(
            dependency, address, f"The command of {self.setting} has failed: {reason}."
        )


@dataclass(frozen=True)
class DependencyRestart:
    """Restarts one dependency. `make_server` describes it as a server of the embedded stack."""

    dependency: str
    address: str
    url: str = field(repr=False)
    home: Path
    server: str
    make_server: Callable[[], Server]
    embedded: ServerRestarts
    command: RestartCommand

    async def restart(self) -> str:
        """Restart it once; what was done.

        Raises: DependencyUnavailable, with the setting that would allow it where nothing does.
        """
        if is_embedded(self.home, self.server, self.url):
            return await self.embedded.restart(self.make_server(), self.url)
        if self.command.argv:
            return await self.command.run(self.dependency, self.address)
        raise DependencyUnavailable(
            self.dependency,
            self.address,
            f"Start it, or set {self.command.setting} to a command that restarts it.",
        )
