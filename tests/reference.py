"""docs/reference.md: commands, settings and events, read from the code.

`python -m tests.reference` writes it; a test compares it.
"""

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from pydantic_core import PydanticUndefined

from cli.app import COMMANDS
from pipeline import events
from pipeline.events import EventType
from settings import HERE, Settings

PAGE = HERE / "docs" / "reference.md"
_HEAD = """# Reference

Made from the code by `python -m tests.reference`.
"""


def reference() -> str:
    """The whole page."""
    parts = [_HEAD, "## Commands", "", *_commands(), "", "## Settings", ""]
    parts += ["Variables, or lines of `.env`.", "", *_settings(), "", "## Events", ""]
    parts += [
        f"JSON on `{events.EVENT_PREFIX}.<type>` with `eventType`, `reqNumber`, `timestamp` and"
        " `eventId`, which is also `Nats-Msg-Id`: a repeat is dropped.",
        "",
        *_events(),
        "",
    ]
    return "\n".join(parts)


def _commands() -> Iterator[str]:
    yield "| command | does | options |"
    yield "| --- | --- | --- |"
    for name, lazy in COMMANDS.items():
        command = lazy.load(name)
        arguments = [
            str(each.name).upper() if each.required else f"[{str(each.name).upper()}]"
            for each in command.params
            if each.param_type_name == "argument"
        ]
        options = [
            f"`{max(each.opts, key=len)}`"
            for each in command.params
            if each.param_type_name == "option" and "--help" not in each.opts
        ]
        does = lazy.help().partition("\n\n")[0].replace("\n", " ")
        yield f"| `{' '.join([name, *arguments])}` | {does} | {' '.join(options)} |"


def _settings() -> Iterator[str]:
    yield "| variable | is | default |"
    yield "| --- | --- | --- |"
    for field in Settings.model_fields.values():
        yield f"| `{field.alias}` | {field.description} | {_default(field.default)} |"


def _default(value: object) -> str:
    if value is PydanticUndefined:
        return "of this machine"
    if isinstance(value, Path) and value.is_relative_to(HERE):
        value = value.relative_to(HERE)
    return "" if value is None or value == "" else f"`{value}`"


def _events() -> Iterator[str]:
    yield "| type | says |"
    yield "| --- | --- |"
    said = _docstrings()
    for kind in EventType:
        yield f"| `{kind}` | {said.get(kind.name, '')} |"


def _docstrings() -> dict[str, str]:
    """What stands below each member: Python itself keeps none of it."""
    (body,) = (
        node.body
        for node in ast.parse(inspect.getsource(events)).body
        if isinstance(node, ast.ClassDef) and node.name == EventType.__name__
    )
    found: dict[str, str] = {}
    for before, after in pairwise(body):
        if isinstance(before, ast.Assign) and isinstance(after, ast.Expr):
            (target,) = before.targets
            assert isinstance(target, ast.Name)
            assert isinstance(after.value, ast.Constant)
            found[target.id] = " ".join(str(after.value.value).split())
    return found


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
