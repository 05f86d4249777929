"""One build of one commit: prepare where it is needed, then the command; a bound on everything."""

import asyncio
import os
from asyncio.subprocess import Process
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.builds.prepared import prepared_state
from adapters.builds.process import BuildProcesses
from adapters.git import Git
from pipeline.agents_file import BuildCommand
from pipeline.model import RunEnd

TAIL_LIMIT = 256 * 1024
LOG_LIMIT = 512 * 1024 * 1024
"""Bytes. A tool that asks in a loop and gets no answer would fill the disk before its time-out."""
LOG_CHECK_SECONDS = 0.25
NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit codes that a shell gives (POSIX, "Exit Status for Commands")."""


@dataclass(frozen=True)
class Exit:
    """How a command ended; `reason` says in words what the code alone does not."""

    end: RunEnd
    code: int | None
    reason: str = ""

    @property
    def is_green(self) -> bool:
        """Only the exit code says so."""
        return self.end is RunEnd.EXITED and self.code == 0


@dataclass(frozen=True)
class BuildJob:
    """A build with its place: `memory` remembers, outside the worktree, what was prepared."""

    build: BuildCommand
    worktree: Path
    log: Path
    memory: Path
    environment: Mapping[str, str]
    processes: BuildProcesses

    @property
    def directory(self) -> Path:
        """Where the commands run."""
        return self.worktree / self.build.directory

    async def run(self) -> Exit:
        """Prepare, if what was prepared is not what the commit asks for; then build."""
        if not self._has_directory():
            reason = f"The build directory {self.build.directory} is not in the commit."
            return Exit(RunEnd.NOT_STARTED, None, reason)
        prepared = await self._prepare() if self.build.prepare else None
        if prepared and not prepared.is_green:
            return replace(
                prepared, reason=f"Preparing the build failed. {prepared.reason}".strip()
            )
        return await self._step(self.build.command)

    async def _prepare(self) -> Exit | None:
        """None where it is prepared already. Remembered only once it has succeeded."""
        state = await asyncio.to_thread(
            prepared_state, self.worktree, self.directory, self.build.prepare
        )
        if _read(self.memory) == state:
            return None
        self.memory.unlink(missing_ok=True)
        ended = await self._step(self.build.prepare)
        if ended.is_green and await self._survives_cleaning():
            self.memory.write_text(state)
        return ended

    async def _survives_cleaning(self) -> bool:
        """Whether all that was prepared is ignored by git: the next checkout removes the rest."""
        untracked = await Git(self.worktree).run(
            "ls-files", "--others", "--exclude-standard", "--directory", "-z"
        )
        return not untracked.text

    async def _step(self, command: tuple[str, ...]) -> Exit:
        """Run one command to its end; whatever it leaves running is ended too."""
        try:
            process = await self.processes.start(
                self.worktree, command, self.directory, self.environment, self.log
            )
        except OSError as error:
            return _not_started(command[0], error)
        try:
            async with asyncio.timeout(self.build.timeout.total_seconds()):
                return await self._ended(process)
        except TimeoutError:
            return Exit(RunEnd.TIMED_OUT, None, f"It took longer than {self.build.timeout}.")
        finally:
            await self.processes.end(self.worktree)

    async def _ended(self, process: Process) -> Exit:
        ending = asyncio.create_task(process.wait())
        try:
            while not (await asyncio.wait({ending}, timeout=LOG_CHECK_SECONDS))[0]:
                if self.log.stat().st_size > LOG_LIMIT:
                    return Exit(RunEnd.TIMED_OUT, None, f"It printed more than {LOG_LIMIT} bytes.")
            return _exited(ending.result())
        finally:
            ending.cancel()

    def _has_directory(self) -> bool:
        """A directory of the commit, not one that a link or `..` leads to."""
        return self.directory.is_dir() and self.directory.resolve().is_relative_to(self.worktree)


def read_tail(log: Path) -> str:
    """The end of a log as text, whole lines, free of NUL (which PostgreSQL refuses)."""
    with log.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_LIMIT))
        data = file.read(TAIL_LIMIT)
    if size > TAIL_LIMIT:
        data = data.partition(b"\n")[2] or data
    return data.decode("utf-8", "replace").replace("\0", "")


def _exited(code: int) -> Exit:
    reason = f"It was ended by signal {-code}." if code < 0 else ""
    return Exit(RunEnd.EXITED, code, reason)


def _not_started(program: str, error: OSError) -> Exit:
    code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    return Exit(RunEnd.NOT_STARTED, code, f"{program} cannot be run: {error.strerror}.")


def _read(file: Path) -> str | None:
    return file.read_text() if file.exists() else None
