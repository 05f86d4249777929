"""Fenced JSON blocks in an agent's output, found in one pass over megabytes of anything."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})([^\n]*)$", re.MULTILINE)
_OBJECT = re.compile(r"\s*\{")


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
    what stands before it. One that names a language always opens a block, and a bare one may open
    one unless it plainly closes another: a stray fence must not hide the notice behind it. As in
    Markdown, the end of the output closes a block too.
    """
    begin, language = 0, "none"
    for fence in _FENCE.finditer(output):
        is_object = _begins_object(output, begin, language)
        if is_object:
            yield output[begin : fence.start()].strip()
        next_language = fence[2].strip().lower()
        closes = not next_language and (is_object or language not in ("", "none"))
        begin, language = fence.end(), "none" if closes else next_language
    if _begins_object(output, begin, language):
        yield output[begin:].strip()


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


def _begins_object(output: str, begin: int, language: str) -> bool:
    return language in ("", "json") and _OBJECT.match(output, begin) is not None


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
