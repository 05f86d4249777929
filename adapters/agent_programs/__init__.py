"""Coding agents' programs as agents: one adapter a kind, all over the same supervisor."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.agent_programs.claude_code import ClaudeCode
from adapters.agent_programs.codex import Codex
from adapters.agent_programs.gemini import GeminiCli
from adapters.agent_programs.nats import RemoteAgent
from adapters.agent_programs.probes import Asked
from adapters.agent_programs.program import AgentProgram
from pipeline.project_proposal import Login, ProgramFound

_VERSION = re.compile(r"\d+(\.\d+)+\S*")

PROGRAMS: dict[str, AgentProgram] = {
    program.kind: program
    for program in (
        ClaudeCode(),
        Codex(),
        GeminiCli(),
        RemoteAgent(),
    )
}
"""Every kind by its name in the agents file: a new one is a file beside this one and a line."""


def find_program(kind: str, environment: Mapping[str, str]) -> ProgramFound | None:
    """The usual program of a kind, if it is on PATH; it takes as long as its probes."""
    program = PROGRAMS[kind].traits.program
    path = shutil.which(program, path=environment.get("PATH", ""))
    if path is None:
        return None
    version, why = version_of_program(path, environment)
    if not version:
        flaw = f"{program} --version does not tell a version ({why}): try it by hand."
        return ProgramFound(kind, program, path, "", Login.UNKNOWN, flaw)
    with TemporaryDirectory(prefix="agog-probe-") as directory:
        login, flaw = PROGRAMS[kind].login(Asked(path, environment, Path(directory)))
    return ProgramFound(kind, program, path, version, login, flaw)


def version_of_program(path: str, environment: Mapping[str, str]) -> tuple[str, str]:
    """The version that a program tells, or an empty one and why it does not."""
    with TemporaryDirectory(prefix="agog-probe-") as directory:
        said = Asked(path, environment, Path(directory))("--version")
    version = _VERSION.search(said.text) if said.code == 0 else None
    if version:
        return version[0], ""
    return "", f"exit code {said.code}" if said.code is not None else "no answer"
