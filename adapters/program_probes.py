"""Which coding agents' programs are on this host, in which version, and whether they can log in.

Every probe is a short command that asks no model: bounded in time, without a terminal, in an empty
directory, so that nothing of a repository is read. Measured on Claude Code 2.1.197, Codex 0.171.0
and Gemini CLI 0.61.0. `claude doctor` is not used: it never ends without a terminal.
"""

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from types import MappingProxyType

from adapters.agent_programs import PROGRAMS
from pipeline.project_proposal import Login, ProgramFound

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
_VERSION = re.compile(r"\d+(\.\d+)+\S*")


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


Login_ = tuple[Login, str]
"""A login, and what is wrong."""


def _claude(ask: Asked) -> Login_:
    """`claude auth status` prints JSON and does not contact the API."""
    said = ask("auth", "status")
    try:
        status = json.loads(said.text)
        is_logged_in = bool(status["loggedIn"])
    except (ValueError, KeyError, TypeError):
        status, is_logged_in = {}, said.code == 0
    if is_logged_in:
        return (Login.KEY if status.get("apiKeySource") else Login.LOGGED_IN), ""
    if ask.has("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"):
        return Login.KEY, ""
    if said.code is None:
        return Login.UNKNOWN, ""
    return Login.NONE, "it is not logged in: run claude and /login, or export ANTHROPIC_API_KEY."


def _codex(ask: Asked) -> Login_:
    """Its status ignores keys in the environment; its own doctor does not run the sandbox."""
    said = ask("login", "status")
    if said.code == 0:
        login = Login.KEY if "API key" in said.text else Login.LOGGED_IN
    elif ask.has("CODEX_API_KEY"):
        login = Login.KEY
    elif said.code is None:
        login = Login.UNKNOWN
    else:
        alone = " (OPENAI_API_KEY alone is not used)" if ask.has("OPENAI_API_KEY") else ""
        return Login.NONE, f"it is not logged in{alone}: run codex login, or export CODEX_API_KEY."
    if ask("sandbox", "--", "true").code:
        return login, (
            "its sandbox does not work on this host, so every command of an agent would fail:"
            ' allow user namespaces, or give permissions = "everything" where this host is a'
            " sandbox itself."
        )
    return login, ""


def _gemini(ask: Asked) -> Login_:
    """It has no command for its login: a key is a variable, an account's login is a file."""
    if ask.has("GEMINI_API_KEY", "GOOGLE_API_KEY", "GOOGLE_GENAI_USE_VERTEXAI"):
        return Login.KEY, ""
    home = ask.environment.get("GEMINI_CLI_HOME") or ask.environment.get("HOME", "")
    if home and (Path(home) / ".gemini" / "oauth_creds.json").is_file():
        return Login.LOGGED_IN, ""
    return Login.NONE, "it is not logged in: export GEMINI_API_KEY, or run gemini and log in."


_LOGINS: Mapping[str, Callable[[Asked], Login_]] = {
    "claude-code": _claude,
    "codex": _codex,
    "gemini": _gemini,
}


def find_program(kind: str, environment: Mapping[str, str]) -> ProgramFound | None:
    """The usual program of a kind, if it is on PATH; it takes as long as its probes."""
    program = PROGRAMS[kind].traits.program
    path = shutil.which(program, path=environment.get("PATH", ""))
    if path is None:
        return None
    with TemporaryDirectory(prefix="agog-probe-") as directory:
        ask = Asked(path, environment, Path(directory))
        said = ask("--version")
        version = _VERSION.search(said.text) if said.code == 0 else None
        if not version:
            why = f"exit code {said.code}" if said.code is not None else "no answer"
            flaw = f"{program} --version does not tell a version ({why}): try it by hand."
            return ProgramFound(kind, program, path, "", Login.UNKNOWN, flaw)
        login, flaw = _LOGINS[kind](ask) if kind in _LOGINS else (Login.UNKNOWN, "")
    return ProgramFound(kind, program, path, version[0], login, flaw)
