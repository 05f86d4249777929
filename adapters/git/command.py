"""The `git` binary as an asynchronous call: no shell, no prompt, no hook, bounded output.

Two gits speak here. *Ours* works on repositories whose configuration only we write and reads no
other; the *user's* works on the user's repository with the user's own settings. Neither runs a
hook, a file-system monitor, a signer, an editor or a replacement object; filters run only where
the installation allows them. One exception: the push of a delivery is the user's own, with her
`pre-push` hook and her way to reach the remote. What hosts share is pushed and fetched by our git,
which reaches that one repository with the user's global configuration.
"""

import asyncio
import os
import re
import signal
import subprocess
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from adapters.programs import exited, running
from pipeline.errors import DependencyUnavailable, GitFailed, ProjectRefused

OUTPUT_LIMIT = 64 * 1024 * 1024
"""Bytes of standard output; the names of several hundred thousand files."""
ERROR_LIMIT = 64 * 1024
LOCK_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Waits while somebody else holds one of git's own lock files; git itself gives up at once."""
NOT_FOUND = 127
"""Exit code of `env` where it finds no such program."""

STALE_LOCK_SECONDS = 60.0
"""Age of a lock file of ours whose owner is dead: our git holds one for milliseconds."""

LONGEST_SECONDS = 3600.0
"""After which a git is taken to hang: cloning the largest projects takes minutes."""

_FULL = re.compile(
    r": (No space left on device|Disk quota exceeded|Cannot allocate memory|Read-only file system"
    r"|Input/output error|Too many open files( in system)?|Resource temporarily unavailable)$",
    re.MULTILINE,
)
"""What the host is to blame for, whatever git was asked to do in a repository of ours."""

LOCK_TAKEN = re.compile(r"Unable to create '([^']*\.lock)': File exists")
# Whatever a hook, a shell or an agent's environment says of git is not meant for us.
_FOREIGN_VARIABLES = (
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_COMMON_DIR",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_CONFIG",
    "GIT_CONFIG_COUNT",
    "GIT_CONFIG_PARAMETERS",
    "GIT_ATTR_SOURCE",
    "GIT_EXTERNAL_DIFF",
    "GIT_GRAFT_FILE",
    "GIT_SHALLOW_FILE",
    "GIT_REPLACE_REF_BASE",
    "GIT_DEFAULT_HASH",
    "GIT_TEMPLATE_DIR",
    "GIT_DEFAULT_REF_FORMAT",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
)
_IDENTITY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "Agog Orchestrator"), ("EMAIL", "orchestrator@agog.invalid"))
}
IDENTITY_KEYS = ("user.name", "user.email")
"""Options that say who commits in a repository of ours, instead of us."""
_VARIABLES = {
    **_IDENTITY,
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_EDITOR": "true",
    "GIT_OPTIONAL_LOCKS": "0",  # looking at the user's checkout must not disturb the user
    "GIT_NO_REPLACE_OBJECTS": "1",  # every commit is read as the bytes that its name stands for
    # Local repositories are all that we speak to, whatever a `url.*.insteadOf` says, unless a
    # call `reaches_others`.
    "GIT_ALLOW_PROTOCOL": "file",
    "LC_ALL": "C",
}
_OPTIONS = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "commit.gpgSign": "false",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "i18n.commitEncoding": "utf-8",
    "submodule.recurse": "false",
    "advice.addEmbeddedRepo": "false",
    "core.alternateRefsCommand": "true",  # the program, which names no refs
    "log.showSignature": "false",
    "clone.rejectShallow": "false",
    # It would refuse at the delivery what was verified and paid for.
    "fetch.fsckObjects": "false",
    "transfer.fsckObjects": "false",
    "init.defaultRefFormat": "files",
}
_OUR_VARIABLES = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
}
_OUR_OPTIONS = {
    # Their defaults lie in the home directory, whatever the configuration says.
    "core.attributesFile": "/dev/null",
    "core.excludesFile": "/dev/null",
    # `git add` would run `git status` in a submodule, with whatever its configuration names.
    "diff.ignoreSubmodules": "all",
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
    """Git in one directory; `variables` and `options` (`-c`) override what git would find.

    File names that are no UTF-8 survive as surrogates (PEP 383).
    """

    directory: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    is_users_push: bool = False
    """Whether it pushes for the user: over any protocol of hers, and her hooks run."""
    reaches_others: bool = False
    """Whether it may speak to other machines, over any protocol; no hook runs on this side."""
    seconds: float = LONGEST_SECONDS
    """After which it is taken to hang."""

    @classmethod
    def ours(
        cls, git_dir: Path, options: Mapping[str, str] | None = None, directory: Path | None = None
    ) -> "Git":
        """Git on a repository of ours: its configuration is the only one that is read.

        It runs in `directory`, or in the repository itself.
        """
        variables = {**_OUR_VARIABLES, "GIT_DIR": str(git_dir)}
        return cls(directory or git_dir, variables, {**_OUR_OPTIONS, **(options or {})})

    def on(self, work_tree: Path, index: Path) -> "Git":
        """The same repository with those files and that index, whatever lies at their `.git`."""
        paths = {"GIT_WORK_TREE": str(work_tree), "GIT_INDEX_FILE": str(index)}
        return replace(self, directory=work_tree, variables={**self.variables, **paths})

    def with_users_settings(self) -> "Git":
        """The same with the user's global configuration: what opens the user's repository.

        It says which repositories of other owners are trusted.
        """
        kept = {k: v for k, v in self.variables.items() if k not in _OUR_VARIABLES}
        return replace(self, variables=kept)

    async def run(
        self, *arguments: str, stdin: str = "", accept: tuple[int, ...] = (0,)
    ) -> GitOutput:
        """Run to the end, waiting for a lock of git's that somebody else holds.

        In a repository of ours a lock that a power cut has left is removed.

        Raises: GitFailed for an exit code that is not accepted and, in a repository of ours, for
        whatever the host is to blame for; ProjectRefused if the directory is gone,
        DependencyUnavailable if there is no git.
        """
        for wait in (*LOCK_RETRY_SECONDS, None):
            output = await self._once(arguments, stdin)
            taken = LOCK_TAKEN.search(output.error) if output.code else None
            if wait is None or not taken:
                break
            if not self._removes_stale(Path(taken[1])):
                await asyncio.sleep(wait)
        is_hosts_fault = self._is_ours and output.code and _FULL.search(output.error)
        if output.code not in accept or is_hosts_fault:
            raise self._failure(arguments, output)
        return output

    def show(self, *arguments: str) -> int:
        """Run it for the user who called us: it prints, pages and colours as git does.

        Returns its exit code.
        """
        return subprocess.run(self._command(arguments), check=False).returncode

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

    @property
    def _is_ours(self) -> bool:
        return "GIT_DIR" in self.variables

    def _removes_stale(self, lock: Path) -> bool:
        if not self._is_ours or not lock.is_relative_to(self.variables["GIT_DIR"]):
            return False
        try:
            if time.time() - lock.stat().st_mtime < STALE_LOCK_SECONDS:
                return False
        except FileNotFoundError:
            return True
        lock.unlink(missing_ok=True)
        return True

    async def _once(self, arguments: tuple[str, ...], stdin: str) -> GitOutput:
        start = asyncio.create_subprocess_exec(
            *self._command(arguments),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,  # the terminal's Ctrl-C is for us; we end git ourselves
        )
        try:
            async with asyncio.timeout(self.seconds), running(start, self._end) as process:
                text, error = await _communicate(process, stdin)
                code = await process.wait()
        except TimeoutError as late:
            raise GitFailed(
                f"git {arguments[0]} in {self.directory} has not ended within "
                f"{self.seconds / 60:.0f} minutes."
            ) from late
        if len(text) >= OUTPUT_LIMIT:
            raise GitFailed(f"git {arguments[0]} printed more than {OUTPUT_LIMIT} bytes.")
        return GitOutput(code, _decoded(text), _decoded(error))

    async def _end(self, process: Process) -> None:
        """SIGTERM, on which git removes its lock files and half-made worktrees.

        A push is ended with the hook and the connection that it has started.
        """
        if process.returncode is None and (self.is_users_push or self.reaches_others):
            os.killpg(process.pid, signal.SIGTERM)
        elif process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await exited(process)

    def _command(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """`env` drops and sets variables, so that the rest of the environment stays unread."""
        unset = (part for name in (*_FOREIGN_VARIABLES, *_IDENTITY) for part in ("-u", name))
        variables, settings = {**_VARIABLES, **self.variables}, {**_OPTIONS, **self.options}
        if self.is_users_push:
            del settings["core.hooksPath"]
        if self.is_users_push or self.reaches_others:
            del variables["GIT_ALLOW_PROTOCOL"]
            variables["SSH_ASKPASS_REQUIRE"] = "never"  # nobody is there to be asked
        if IDENTITY_KEYS[0] in settings:  # who commits is configured
            variables = {name: each for name, each in variables.items() if name not in _IDENTITY}
        options = (part for key, value in settings.items() for part in ("-c", f"{key}={value}"))
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
    except (BrokenPipeError, ConnectionResetError):
        return


async def _drained(stream: asyncio.StreamReader, limit: int) -> bytes:
    """Everything up to the limit; what follows is read and dropped, so that git can end."""
    kept = bytearray()
    while chunk := await stream.read(64 * 1024):
        kept += chunk[: limit - len(kept)]
    return bytes(kept)


def _decoded(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
