"""What an agent has said: the JSON blocks of its standard output, in one pass over megabytes.

Three layers stand between an agent's words and us, and each is undone here and nowhere else: what
a terminal makes of them (colours, progress, overwritten lines), the JSON lines in which a coding
agent's program wraps them (`--output-format json`, `--json`, `-o stream-json`), and the fences.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple, NoReturn

_ESCAPE = re.compile(
    r"(?:\x1b\[|\x9b)(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-_a-~])"
    r"|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-_a-z]?"
)
"""Control sequences; none of them takes a mark of a fence away."""

_MOVES = frozenset("ABDEFGHJdf")
"""Finals of the sequences after which a terminal writes somewhere else."""

_SIGN = re.compile(
    r"^(?:[^\S\n]*(?P<fence>`{3,}|~{3,})(?P<info>[^\n]*)"
    r"|(?P<line>\{\"[^\n]*)"
    r"|(?P<brace>[{}])[ \t]*"
    r"|(?P<array>[^\n]*\}\][ \t]*))$",
    re.MULTILINE,
)
_OBJECT = re.compile(r"\s*\{")
_WRAPPED_OBJECT = re.compile(r"(?:[\s\[]|//[^\n]*\n|/\*(?:[^*]|\*(?!/))*\*/)*\{")
"""What is said to be JSON may begin with comments, or be a list: no notice, but no noise either."""
_INLINE = re.compile(
    r"""[^\S\n]*(?:json[c5]?\b)?[^\S\n]*(?=\{[^\S\n]*(?:["'}]|$))""", re.IGNORECASE
)
_WORD = re.compile(r"[\w+-]+")
_STRING = r'"(?:[^"\\\n]|\\.)*"?'
_COMMENT = re.compile(_STRING + r"|(//[^\n]*|/\*.*?(?:\*/|\Z))", re.DOTALL)
_COMMA = re.compile(_STRING + r"|(,)(?=\s*[}\]])", re.DOTALL)
"""A string, or what plain JSON does not know; what is not closed goes to its end: one pass."""

_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")

_WITH_COMMENTS = ("jsonc", "json5")
_LANGUAGES = ("", "json", *_WITH_COMMENTS)
"""What the fence of a notice may say; `none` is no fence at all."""

_LAST_OF_ARRAY = '{"type":"result"'
_TEXT_KEYS = ("result", "response", "output", "text")
_GEMINI_LINES = ("init", "message", "tool_use", "tool_result")


class Block(NamedTuple):
    """What looks like a JSON object. `problem`: why nothing the agent said before it counts."""

    text: str
    problem: str = ""
    has_comments: bool = False
    """Whether its fence announces JSON with comments."""
    is_open: bool = False
    """Whether the output ended before its fence was closed."""


@dataclass(frozen=True)
class Reading:
    """A block that was read: its fields, or what is wrong with it."""

    text: str
    fields: Mapping[str, object] = field(default_factory=dict)
    problem: str = ""
    is_half: bool = False

    def said(self, key: str) -> tuple[object, ...]:
        """The values under that key in any spelling; of a broken block, what its text shows."""
        if not self.problem:
            wanted = spelling(key)
            return tuple(value for name, value in self.fields.items() if spelling(name) == wanted)
        text = self.text
        if "\\u" in text:
            text = _UNICODE.sub(lambda found: chr(int(found[1], 16)), text)
        return tuple(_shown_as(key).findall(text))


def spelling(key: str) -> str:
    """What is the same in `test_result`, `testResult`, `Test-Result` and `test result`."""
    plain = key if key.isascii() else unicodedata.normalize("NFKC", key)
    return "".join(filter(str.isalnum, plain)).casefold()


def shown(output: str) -> str:
    """The output without what only steers a terminal; what was overwritten is a line of its own."""
    if "\x1b" in output or "\x9b" in output:
        output = _ESCAPE.sub(_after_escape, output)
    for told, line in (("\r\n", "\n"), ("\r", "\n"), ("\b", "\n"), ("\ufeff", "")):
        output = output.replace(told, line)
    return output


def blocks(output: str) -> Iterator[Block]:
    """Every block that begins like a JSON object, in the order in which it was said.

    A fence is a line that begins with three or more backticks or tildes; the opening one may say
    `json`, and the object may begin, or stand, on it. Inside JSON no line can begin with a fence,
    since its strings hold no line breaks, so every fence ends what stands before it. One that
    names a language always opens a block, and a bare one may open one unless it plainly closes
    another: a stray fence must not hide the notice behind it. As in Markdown, the end of the
    output closes a block too.

    Of the JSON lines of a coding agent's program, what the agent itself says counts: no prompt, no
    tool's output, no sub-agent. A stream that fails, or stops without its end, is a problem.
    """
    yield from _Scan(shown(output)).blocks()


def read_block(block: Block) -> Reading:
    """The block's fields, or its problem; never raises for bad JSON."""
    text = block.text
    if block.problem:
        return Reading(text, problem=block.problem)
    try:
        plain = text
        if block.has_comments:
            plain = _COMMA.sub(_without, _COMMENT.sub(_without, text))
        fields = json.loads(plain, parse_constant=_refuse_constant, object_pairs_hook=_unique)
        is_object = isinstance(fields, dict)
        return Reading(text, fields) if is_object else Reading(text, problem="is no JSON object")
    except json.JSONDecodeError as error:
        half = error.pos >= len(text) or error.msg.startswith("Unterminated")
        problem = "is only half there: " if half else "is not valid JSON: "
        problem += f"{error.msg} at line {error.lineno}, column {error.colno}"
        return Reading(text, problem=problem, is_half=half)
    except _RepeatedKey as error:
        return Reading(text, problem=f"says {error.args[0][:80]!r} twice")
    except ValueError as error:
        return Reading(text, problem=f"is not valid JSON: {error}")
    except RecursionError:
        return Reading(text, problem="is nested too deeply")


class _Scan:
    """One pass over a text, with what is open at each point of it."""

    def __init__(self, text: str, *, is_message: bool = False) -> None:
        self._text = text
        self._is_message = is_message
        self._begin, self._language = 0, "none"
        self._brace: int | None = None
        self._program = _Program()
        self._found: list[Block] = []

    def blocks(self) -> Iterator[Block]:
        for sign in _SIGN.finditer(self._text):
            if sign[1]:
                self._fence(sign)
            elif not self._is_message:
                self._line(sign)
            if self._found:
                yield from self._found
                self._found = []
        self._end_block(len(self._text), is_open=True)
        yield from self._found
        yield from self._program.finish()

    def _fence(self, sign: re.Match[str]) -> None:
        was_object = self._end_block(sign.start())
        self._brace = None
        language = ""
        if info := sign[2]:
            if inline := _INLINE.match(info):
                return self._inline(sign, inline.end())
            word = _WORD.search(info)
            language = word[0].lower() if word else ""
        closes = not language and (was_object or self._language not in ("", "none"))
        self._begin, self._language = sign.end(), "none" if closes else language
        return None

    def _inline(self, sign: re.Match[str], at: int) -> None:
        """An object that begins on the line of its fence, and may end there."""
        mark, text = sign[1][0], sign[2][at:].strip()
        is_closed = text.endswith(mark * 3)
        block = Block(text.rstrip(mark).strip() if is_closed else text)
        self._begin, self._language = sign.end(), "none" if is_closed else "json"
        if is_closed or not read_block(block).problem:
            self._note(block)
        else:
            self._begin = sign.start(2) + at

    def _line(self, sign: re.Match[str]) -> None:
        """A line of JSON, or the end of one that is written over several lines."""
        start, value = sign.start(), None
        if line := sign["line"]:
            value = _decoded(line)
        elif sign["brace"] == "{":
            self._brace = start if self._language == "none" else None
        elif sign["brace"] and self._brace is not None:
            start, self._brace = self._brace, None
            value = _decoded(self._text[start : sign.end()])
        elif array := sign["array"]:
            last = array.rfind(_LAST_OF_ARRAY)
            value = _decoded(array.rstrip()[last:-1]) if last >= 0 else None
        if isinstance(value, dict) and self._program.knows(value) and not self._is_fenced(start):
            self._end_block(start)
            self._begin, self._language = sign.end(), "none"
            self._found += self._program.take(value)

    def _is_fenced(self, at: int) -> bool:
        """Whether a fenced object begins there: it is quoted, no program has printed it."""
        return self._begins_object() and not self._text[self._begin : at].strip()

    def _begins_object(self) -> bool:
        if self._language not in _LANGUAGES:
            return False
        pattern = _WRAPPED_OBJECT if self._language else _OBJECT
        return pattern.match(self._text, self._begin) is not None

    def _end_block(self, end: int, *, is_open: bool = False) -> bool:
        """Note the block that ends there; False if what stands there is none."""
        if not self._begins_object():
            return False
        has_comments = self._language in _WITH_COMMENTS
        text = self._text[self._begin : end].strip()
        self._note(Block(text, "", has_comments, is_open))
        return True

    def _note(self, block: Block) -> None:
        if self._program.is_open:
            self._found += self._program.finish()
        self._found.append(block)


class _Program:
    """What a coding agent's program tells in JSON of its agent's words and of its own end.

    Measured on Claude Code 2.1, Codex 0.171 and Gemini CLI 0.61.
    """

    def __init__(self) -> None:
        self._is_running = False
        self._delta = ""

    @property
    def is_open(self) -> bool:
        """Whether more of its lines must come."""
        return self._is_running or self._delta != ""

    def knows(self, line: Mapping[str, Any]) -> bool:
        """Whether that is a line of such a program."""
        return self._kind(line) != ""

    def take(self, line: Mapping[str, Any]) -> Iterator[Block]:
        """What that line says."""
        kind = self._kind(line)
        if kind == "delta":
            self._is_running = True
            self._delta += line["content"]
            return
        yield from self._flush()
        self._is_running = kind == "running" or (kind == "said" and self._is_running)
        if kind != "running" and (problem := _failure(line)):
            yield Block("", f"was not given: its program ended with an error: {problem[:200]}")
            return
        if isinstance(structured := line.get("structured_output"), dict):
            yield Block(json.dumps(structured, ensure_ascii=False))
            return
        for text in _said(line):
            yield from _message_blocks(text)

    def finish(self) -> Iterator[Block]:
        """The end of the lines, or something else after them: an answer needs their own end."""
        yield from self._flush()
        if self._is_running:
            self._is_running = False
            problem = "was not given: the JSON lines of its program stop without their end"
            yield Block("", problem, is_open=True)

    def _flush(self) -> Iterator[Block]:
        text, self._delta = self._delta, ""
        if text:
            yield from _message_blocks(text)

    def _kind(self, line: Mapping[str, Any]) -> str:
        kind = line.get("type")
        if kind is None:
            texts = [key for key in _TEXT_KEYS if isinstance(line.get(key), str)]
            is_notice = "agent" in line or "req_number" in line
            return "said" if len(texts) == 1 and not is_notice else ""
        if kind in ("turn.completed", "turn.failed"):
            return "end"
        if kind == "result":
            is_claude = isinstance(line.get("result"), str) or "is_error" in line
            return "end" if is_claude or "stats" in line else ""
        if kind == "message" and line.get("role") == "assistant":
            return "delta" if isinstance(line.get("content"), str) else ""
        if kind in ("assistant", "user") and isinstance(line.get("message"), dict):
            return "running"
        is_start = kind == "system" and line.get("subtype") == "init"
        is_gemini = kind in _GEMINI_LINES and "timestamp" in line
        is_codex = str(kind).startswith(("thread.", "turn.", "item."))
        return "running" if is_start or is_gemini or is_codex else ""


def _failure(line: Mapping[str, Any]) -> str:
    """What the program says of its failure; empty if it ended well."""
    error = line.get("error")
    said = error.get("message") if isinstance(error, dict) else error
    text = line.get("result")
    told = str(said or (text if isinstance(text, str) else "") or line.get("errors") or "")
    outcome = line.get("subtype") or line.get("status") or "success"
    is_bad = line.get("is_error") or line["type"] == "turn.failed" if "type" in line else False
    if outcome == "success" and not is_bad and not error:
        return ""
    return told if outcome == "success" else f"{outcome} {told}".strip()


def _said(line: Mapping[str, Any]) -> Iterator[str]:
    """The agent's own words in that line."""
    message = line.get("message")
    if line.get("type") == "assistant" and not line.get("parent_tool_use_id"):
        content = message.get("content") if isinstance(message, dict) else ()
        parts = content if isinstance(content, list) else ()
        yield "".join(str(part["text"]) for part in parts if _is_text(part))
    elif line.get("type") == "item.completed":
        item = line.get("item")
        if isinstance(item, dict) and item.get("type") == "agent_message":
            yield str(item.get("text", ""))
    elif line.get("type", "result") == "result":
        yield from (line[key] for key in _TEXT_KEYS if isinstance(line.get(key), str))


def _is_text(part: object) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and "text" in part


def _message_blocks(text: str) -> Iterator[Block]:
    """The blocks of one message; one that is nothing but an object is structured output."""
    text = shown(text)
    if _OBJECT.match(text) and text.rstrip().endswith("}"):
        block = Block(text.strip())
        if not read_block(block).problem:
            yield block
            return
    yield from _Scan(text, is_message=True).blocks()


@cache
def _shown_as(key: str) -> re.Pattern[str]:
    """What a key and its value look like where the JSON is broken, in whatever quotes."""
    letters = "[_-]?".join(map(re.escape, key.split("_")))
    pattern = rf"""\b{letters}["'”’]?\s*[:=]\s*["'“‘]?([^"'“”‘’\n,}}]*)"""
    return re.compile(pattern, re.IGNORECASE)


def _after_escape(sequence: re.Match[str]) -> str:
    final, parameters = sequence["final"], sequence["parameters"]
    erases_before = final == "K" and parameters in ("1", "2")
    return "\n" if final in _MOVES or erases_before else ""


def _without(token: re.Match[str]) -> str:
    return " " if token[1] else token[0]


def _decoded(text: str) -> object:
    """A JSON value; None for anything else, and for what cannot be a program's line."""
    if not any(f'"{key}"' in text for key in ("type", *_TEXT_KEYS)):
        return None
    try:
        value: object = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value


class _RepeatedKey(ValueError):
    pass


def _unique(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in pairs:
        if key in fields:
            raise _RepeatedKey(key)
        fields[key] = value
    return fields


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
