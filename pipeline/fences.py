"""Fenced JSON blocks in an agent's output, found in one pass over megabytes of anything."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block that begins like a JSON object; where it is none, `problem` says why."""

    text: str
    fields: Mapping[str, object]
    problem: str = ""

    def said(self, key: str) -> object:
        """The value of that key, or None; of a broken block, the first one that its text shows."""
        if not self.problem:
            return self.fields.get(key)
        shown = re.search(rf'"{re.escape(key)}"\s*:\s*"([^"]*)"', self.text)
        return shown[1] if shown else None


def fenced_json(output: str) -> Iterator[str]:
    """The contents of fenced blocks that begin like a JSON object, in order.

    A fence is a line of three or more backticks or tildes; the opening one may say `json`. Inside
    JSON no line can begin with a fence, since its strings hold no line breaks, so every fence ends
    what stands before it, and a stray one cannot hide the block that follows. As in Markdown,
    the end of the output closes a block too.
    """
    begin: int | None = None
    for fence in _FENCE.finditer(output):
        if begin is not None:
            yield from _object_text(output, begin, fence.start())
        begin = fence.end() if fence[2].strip().lower() in ("", "json") else None
    if begin is not None:
        yield from _object_text(output, begin, len(output))


def read_block(text: str) -> Block:
    """The block's fields, or its problem; never raises for bad JSON."""
    try:
        return Block(text, json.loads(text, parse_constant=_refuse_constant))
    except json.JSONDecodeError as error:
        half = error.pos >= len(text) or error.msg.startswith("Unterminated")
        problem = "is only half there: " if half else "is not valid JSON: "
        return Block(text, {}, f"{problem}{error.msg} at line {error.lineno}, column {error.colno}")
    except ValueError as error:
        return Block(text, {}, f"is not valid JSON: {error}")
    except RecursionError:
        return Block(text, {}, "is nested too deeply")


def _object_text(output: str, begin: int, end: int) -> Iterator[str]:
    text = output[begin:end].strip()
    if text.startswith("{"):
        yield text


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
