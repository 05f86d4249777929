"""Files that a user names: their size is bounded, a refusal says why."""

from pathlib import Path

from adapters.agent_programs import PROGRAMS
from pipeline.agents_file import AgentsFile, read_agents
from pipeline.errors import RefusedInput

TEXT_BYTES = 64 * 1024 * 1024
"""Enough for a backlog of hundreds of long requirements."""


def read_text(path: Path, what: str, limit: int = TEXT_BYTES) -> str:
    """The text of a file that the user named. Raises: RefusedInput with the reason."""
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise RefusedInput(f"{what} {str(path)!r} cannot be read: {reason}.") from error
    if len(content) > limit:
        raise RefusedInput(f"{what} {str(path)!r} is larger than {limit // 1024} KiB.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RefusedInput(f"{what} {str(path)!r} is not UTF-8 text: {error.reason}.") from error


def find_agents(path: Path) -> AgentsFile:
    """The agents file. Raises: RefusedInput that names the variable for its path."""
    try:
        text = read_text(path, "Agents file")
    except RefusedInput as refusal:
        remedy = "Let `python starter.py init` write one, or set AGOG_AGENTS_FILE to yours."
        raise RefusedInput(f"{refusal} {remedy}") from refusal
    traits = {kind: program.traits for kind, program in PROGRAMS.items()}
    return read_agents(text, str(path), path.parent, traits)
