"""Reading what the user names: pipelines, agents file, requirements, settings."""

from pathlib import Path

from pydantic import ValidationError

from pipeline.agents_file import AgentsFile, read_agents
from pipeline.errors import RefusedInput
from pipeline.model import Pipeline
from pipeline.plan_file import read_pipeline
from settings import HERE, Settings

PIPELINES = HERE / "pipelines"
DEFAULT_PIPELINE = "standard"

PLAN_BYTES = 64 * 1024
"""A plan travels in the workflow's input (design, section 7)."""
TEXT_BYTES = 64 * 1024 * 1024
"""A backlog of hundreds of long requirements."""


def load_settings() -> Settings:
    """The settings of this environment. Raises: RefusedInput naming each bad one."""
    try:
        return Settings()
    except ValidationError as refusal:
        raise RefusedInput(f"Settings: {problems_of(refusal)}.") from refusal


def problems_of(refusal: ValidationError) -> str:
    """Each bad field and what is wrong with it; never its value, which may be a secret or long."""
    problems = refusal.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(
        ": ".join(filter(None, (".".join(map(str, problem["loc"]))[:80], problem["msg"])))
        for problem in problems
    )


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


def known_pipelines() -> tuple[str, ...]:
    """Names of the pipelines that come with the program."""
    return tuple(sorted(path.stem for path in PIPELINES.glob("*.toml")))


def find_pipeline(name_or_file: str) -> Pipeline:
    """A pipeline by its name, or from a file. Raises: RefusedInput."""
    known = known_pipelines()
    if name_or_file in known:
        path = PIPELINES / f"{name_or_file}.toml"
    elif "/" in name_or_file or name_or_file.endswith(".toml"):
        path = Path(name_or_file)
    else:
        raise RefusedInput(
            f"Unknown pipeline {name_or_file[:80]!r}. Known: {', '.join(known)};"
            " or give the path of a .toml file."
        )
    return read_pipeline(read_text(path, "Pipeline file", PLAN_BYTES), str(path))


def find_agents(path: Path) -> AgentsFile:
    """The agents file. Raises: RefusedInput, naming the variable that leads to it."""
    try:
        text = read_text(path, "Agents file")
    except RefusedInput as refusal:
        raise RefusedInput(f"{refusal} Set AGOG_AGENTS_FILE to yours.") from refusal
    return read_agents(text, str(path), path.parent)
