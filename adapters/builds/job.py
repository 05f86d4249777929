"""One build of one commit: prepare where it is needed, then the command; a bound on everything."""

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic

from adapters.builds.processes import BuildProcesses
from adapters.files import is_no_room
from adapters.git import Git
from pipeline.agents_file import BuildCommand
from pipeline.model import BuildStep, RunEnd

TAIL_LIMIT = 256 * 1024
LOG_LIMIT = 512 * 1024 * 1024
"""Bytes. A tool that asks in a loop and gets no answer would fill the disk before its time-out."""
LOG_CHECK_SECONDS = 0.25
NOT_FOUND = 127
NOT_EXECUTABLE = 126
"""Exit codes that a shell gives (POSIX, "Exit Status for Commands")."""

PREPARED = "agog-prepared"
"""File in the checkout's git directory that tells what was prepared: it goes with the checkout."""

LOCK_FILES = (
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "deno.lock",
    "poetry.lock",
    "uv.lock",
    "pdm.lock",
    "pylock*.toml",
    "Pipfile.lock",
    "requirements*.txt",
    "Cargo.lock",
    "go.sum",
    "Gemfile.lock",
    "composer.lock",
    "mix.lock",
    "pubspec.lock",
    "packages.lock.json",
    "gradle.lockfile",
    "flake.lock",
)
MANIFESTS = (
    "package.json",
    "pyproject.toml",
    "setup.py",
    "Pipfile",
    "Cargo.toml",
    "go.mod",
    "Gemfile",
    "composer.json",
    "build.gradle*",
    "pom.xml",
)
"""What stands in for a lock file in a project that has none."""


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


@dataclass
class BuildJob:
    """A build with its place. A `clean` one stands in a fresh checkout and prepares it in any case.

    An incremental one prepares only what is not prepared as the commit asks for. `steps` tells
    afterwards what was run.
    """

    build: BuildCommand
    worktree: Path
    memory: Path
    """Where we remember what was prepared: out of the build's reach."""
    git: Git
    """Our git on the files of the worktree."""
    log: Path
    clean: bool
    environment: Mapping[str, str]
    processes: BuildProcesses
    steps: list[BuildStep] = field(default_factory=list)

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
        return await self._step("build", self.build.command)

    async def _prepare(self) -> Exit | None:
        """None where it is prepared already. Remembered only once it has succeeded."""
        state = await asyncio.to_thread(
            prepared_state, self.worktree, self.directory, self.build.prepare
        )
        if not self.clean and _read(self.memory) == state:
            return None
        self.memory.unlink(missing_ok=True)
        ended = await self._step("prepare", self.build.prepare)
        if ended.is_green and await self._survives_cleaning():
            self.memory.write_text(state)
        return ended

    async def _survives_cleaning(self) -> bool:
        """Whether all that was prepared is ignored by git: the next checkout removes the rest."""
        untracked = await self.git.run(
            "ls-files", "--others", "--exclude-standard", "--directory", "-z"
        )
        return not untracked.text

    async def _step(self, name: str, command: tuple[str, ...]) -> Exit:
        """Run one command to its end, and whatever it leaves running; note what it took."""
        began = monotonic()
        try:
            return await self._bounded(command)
        finally:
            self.steps.append(BuildStep(name, command, round(monotonic() - began, 3)))

    async def _bounded(self, command: tuple[str, ...]) -> Exit:
        running = asyncio.create_task(
            self.processes.run(self.worktree, command, self.directory, self.environment, self.log)
        )
        try:
            async with asyncio.timeout(self.build.timeout.total_seconds()):
                while not (await asyncio.wait({running}, timeout=LOG_CHECK_SECONDS))[0]:
                    if self.log.stat().st_size > LOG_LIMIT:
                        reason = f"It printed more than {LOG_LIMIT} bytes."
                        return Exit(RunEnd.TIMED_OUT, None, reason)
            return _exited(running.result())
        except TimeoutError:
            return Exit(RunEnd.TIMED_OUT, None, f"It took longer than {self.build.timeout}.")
        except OSError as error:
            if is_no_room(error):
                raise
            return _not_started(command[0], error)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

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


def prepared_state(worktree: Path, directory: Path, command: tuple[str, ...]) -> str:
    """A fingerprint of the command and the lock files that it reads."""
    digest = hashlib.sha256("\0".join(command).encode("utf-8", "surrogateescape"))
    places = dict.fromkeys((directory, worktree))
    for file in tuple(_found(places, LOCK_FILES)) or tuple(_found(places, MANIFESTS)):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"\0{file.relative_to(worktree)} {content}".encode("utf-8", "replace"))
    return digest.hexdigest()


def _found(places: dict[Path, None], patterns: tuple[str, ...]) -> Iterator[Path]:
    for place in places:
        for pattern in patterns:
            yield from (file for file in sorted(place.glob(pattern)) if file.is_file())


def _exited(code: int) -> Exit:
    reason = f"It was ended by signal {-code}." if code < 0 else ""
    return Exit(RunEnd.EXITED, code, reason)


def _not_started(program: str, error: OSError) -> Exit:
    code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    return Exit(RunEnd.NOT_STARTED, code, f"{program} cannot be run: {error.strerror}.")


def _read(file: Path) -> str | None:
    return file.read_text() if file.exists() else None
