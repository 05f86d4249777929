"""The `git` binary as an asynchronous call: no shell, no prompt, no hook, bounded output."""

import asyncio
import re
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import DependencyUnavailable, GitFailed, ProjectRefused

OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of standard output; the names of several hundred thousand files."""
ERROR_LIMIT = 64 * 1024
LOCK_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Waits while somebody else holds one of git's own lock files; git itself gives up at once."""
NOT_FOUND = 127
"""Exit code of `env` where it finds no such program."""

_LOCK_TAKEN = re.compile(r"Unable to create '[^']*\.lock': File exists")
_REPOSITORY_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
)
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Agog Orchestrator"), ("EMAIL", "orchestrator@agog.invalid"))
}
_VARIABLES = {
    **_IDENTITY,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_OPTIONAL_LOCKS": "0",  # looking at the user's checkout must not disturb the user
    "LC_ALL": "C",
}
_OPTIONS = {
    # Worktrees share the repository's hooks: an agent could have written one, and it would run
    # with our rights. The same holds for a file-system monitor, which is a program as well.
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "commit.gpgsign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "i18n.commitEncoding": "utf-8",
    "submodule.recurse": "false",
    "advice.addEmbeddedRepo": "false",
}


@dataclass(frozen=True)
class GitOutput:
    """What a finished git said."""

    code: int
    text: str
    error: str

    @property
    def line(self) -> str:
        """The one line it printed."""
        return self.text.strip()

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of an answer that was asked for with `-z`."""
        return tuple(part for part in self.text.split("\0") if part)


@dataclass(frozen=True)
class Git:
    """Git in one directory. `variables` (GIT_DIR, GIT_INDEX_FILE …) override what git would find.

    File names that are no UTF-8 survive as surrogates (PEP 383).
    """

    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    async def run(
        self, *arguments: str, stdin: str = "", accept: tuple[int, ...] = (0,)
    ) -> GitOutput:
        """Run to the end, waiting for a lock of git's that somebody else holds.

        Raises: GitFailed for an exit code that is not accepted, ProjectRefused if the directory
        is gone, DependencyUnavailable if there is no git.
        """
        for wait in (*LOCK_RETRY_SECONDS, None):
            output = await self._once(arguments, stdin)
            if wait is None or not (output.code and _LOCK_TAKEN.search(output.error)):
                break
            await asyncio.sleep(wait)
        if output.code not in accept:
            raise self._failure(arguments, output)
        return output

    async def succeeds(self, *arguments: str) -> bool:
        """Whether git answers 0; 1 is its no."""
        return (await self.run(*arguments, accept=(0, 1))).code == 0

    async def commit_of(self, revision: str) -> str | None:
        """The full name of the commit a revision stands for, if there is one."""
        found = await self.run(
            "rev-parse", "--quiet", "--verify", "--end-of-options", f"{revision}^{{commit}}",
            accept=(0, 1),
        )  # fmt: skip
        return found.line if found.code == 0 else None

    async def _once(self, arguments: tuple[str, ...], stdin: str) -> GitOutput:
        process = await asyncio.create_subprocess_exec(
            *self._command(arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,  # the terminal's Ctrl-C is for us; we end git ourselves
        )
        try:
            text, error = await _communicate(process, stdin)
            code = await process.wait()
        except asyncio.CancelledError:
            await _terminate(process)
            raise
        if len(text) >= OUTPUT_LIMIT:
            raise GitFailed(f"git {arguments[0]} printed more than {OUTPUT_LIMIT} bytes.")
        return GitOutput(code, _decoded(text), _decoded(error))

    def _command(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """`env` drops and sets variables, so that the rest of the environment stays unread."""
        unset = (part for name in _REPOSITORY_VARIABLES for part in ("-u", name))
        variables = {**_VARIABLES, **self.variables}
        options = (part for name, value in _OPTIONS.items() for part in ("-c", f"{name}={value}"))
        assignments = (f"{name}={value}" for name, value in variables.items())
        place = ("-C", str(self.directory))
        return ("env", *unset, *assignments, "git", *options, *place, *arguments)

    def _failure(self, arguments: tuple[str, ...], output: GitOutput) -> Exception:
        if output.code == NOT_FOUND:
            return DependencyUnavailable("git", "PATH", "Install git 2.38 or newer.")
        if not self.directory.is_dir():
            return ProjectRefused(f"{self.directory} is not there any more.")
        said = output.error.strip() or output.line
        return GitFailed(
            f"git {arguments[0]} in {self.directory}: exit code {output.code}: {said[-2000:]}"
        )


async def _communicate(process: Process, stdin: str) -> tuple[bytes, bytes]:
    # All three were asked for; the types cannot know.
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    text, error, _ = await asyncio.gather(
        _drained(process.stdout, OUTPUT_LIMIT),
        _drained(process.stderr, ERROR_LIMIT),
        _fed(process.stdin, stdin.encode("utf-8", "surrogateescape")),
    )
    return text, error


async def _fed(stream: asyncio.StreamWriter, data: bytes) -> None:
    """Write and close; a git that ended without reading says why on its standard error."""
    try:
        stream.write(data)
        await stream.drain()
        stream.close()
        await stream.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        return


async def _drained(stream: asyncio.StreamReader, limit: int) -> bytes:
    """Everything up to the limit; what follows is read and dropped, so that git can end."""
    kept = bytearray()
    while chunk := await stream.read(64 * 1024):
        kept += chunk[: limit - len(kept)]
    return bytes(kept)


async def _terminate(process: Process) -> None:
    """SIGTERM, on which git removes its lock files and half-made worktrees."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    await process.wait()


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
