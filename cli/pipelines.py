"""Pipelines, by name or from a file."""

from pathlib import Path

from adapters.user_files import read_text
from pipeline.errors import RefusedInput
from pipeline.model import Pipeline
from pipeline.plan_file import read_pipeline
from settings import HERE

PIPELINES = HERE / "pipelines"
DEFAULT_PIPELINE = "standard"

PLAN_BYTES = 64 * 1024
"""A plan travels in the workflow's input (design, section 7)."""


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
