"""What every command prints with: data goes to stdout, everything else to stderr.

Rich leaves out colour and animation where there is no terminal, or with `NO_COLOR`.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Literal, TextIO, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cli.running import as_called
from pipeline.events import timestamp
from pipeline.model import RequirementState, StageState

SCHEMA_VERSION = 1
PIPE_WIDTH = 200
"""Columns without a terminal: a line that a script reads must not be folded at 80."""

BAR_WIDTH = 30
"""Columns of a whole time line: beside the other columns it fits a terminal of 80."""

_STYLES = {
    StageState.RUNNING: "cyan",
    StageState.COMPLETED: "green",
    StageState.SKIPPED: "dim",
    StageState.FAILED: "bold red",
    StageState.BLOCKED: "red",
    StageState.HELD: "yellow",
    RequirementState.RUNNING: "cyan",
    RequirementState.HELD: "yellow",
    RequirementState.DELIVERED: "bold green",
    RequirementState.FAILED: "bold red",
    RequirementState.BLOCKED: "bold red",
}

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class _Stream:
    """A stream that is told every command as it can be typed where the user stands."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(as_called(text))

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _console(stream: TextIO) -> Console:
    return Console(
        file=cast("TextIO", _Stream(stream)),
        width=None if stream.isatty() else PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
    )


def data() -> Console:
    """The console of stdout."""
    return _console(sys.stdout)


def progress() -> Console:
    """The console of stderr."""
    return _console(sys.stderr)


def screen() -> Console:
    """The console of stderr for lines that fit already: nothing in them is replaced."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def say(text: str) -> None:
    """Print a line of progress."""
    progress().print(plain(text), soft_wrap=True)


def hint(text: str) -> None:
    """Print a line of data that may name a command."""
    write(as_called(text))


def complain(text: str) -> None:
    """Report an error: one sentence that also says what to do."""
    console = progress()
    console.print("Error: ", style="bold red", end="")
    console.print(plain(text), soft_wrap=True)


def write(text: str) -> None:
    """Print a line of data unchanged."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write_json(document: Mapping[str, object]) -> None:
    """Print one JSON document, with its schema version."""
    body = {"schema_version": SCHEMA_VERSION, **document}
    write(json.dumps(body, default=_encode, ensure_ascii=False, indent=2))


def write_json_line(document: Mapping[str, object]) -> None:
    """Print one JSON document of a stream, on one line."""
    body = {"schema_version": SCHEMA_VERSION, **document}
    write(json.dumps(body, default=_encode, ensure_ascii=False))


def table(*columns: str, numbers: tuple[str, ...] = (), fold: tuple[str, ...] = ()) -> Table:
    """An empty table. Columns in `numbers` are right-aligned.

    On a narrow terminal only the columns in `fold` wrap: people copy numbers and names.
    """
    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        made.add_column(column, justify=justify, no_wrap=column not in fold, overflow="fold")
    return made


def plain(text: str) -> str:
    """The text without control characters: an agent's output must not control the terminal."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def prose(text: str) -> Text:
    """Sentences: folded between words on a terminal, whole elsewhere."""
    said = Text(as_called(text))  # before it is folded
    return said if data().is_terminal else unfolded(said)


def unfolded(text: Text) -> Text:
    """The text without line breaks of ours, so that a path or command can be copied whole.

    Print it with `crop=False`; the terminal wraps it.
    """
    text.no_wrap, text.overflow = True, "ignore"
    return text


def first_line(text: str) -> str:
    """The text before the first line break."""
    return text.partition("\n")[0]


def clock(at: datetime | None) -> str:
    """The local time of day; empty for None."""
    return at.astimezone().strftime("%H:%M:%S") if at else ""


def moment(at: datetime) -> str:
    """The local date and time, to the second."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def since(at: datetime, now: datetime) -> str:
    """The local time, to the minute; with its date unless that is the date of `now`."""
    local = at.astimezone()
    is_today = local.date() == now.astimezone().date()
    return local.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """Seconds in their two largest units."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def styled(state: StageState | RequirementState) -> Text:
    """A state in its colour."""
    return Text(str(state), style=style_of(state))


def style_of(state: StageState | RequirementState) -> str:
    """The colour of a state; empty if it has none."""
    return _STYLES.get(state, "")


def bar(start: float, end: float, total: float, width: int = BAR_WIDTH) -> str:
    """A bar of a text Gantt chart, on a line of `width` columns that stands for `total`.

    Even the shortest stretch is one column wide.
    """
    if total <= 0:
        return ""
    first = min(width - 1, round(width * start / total))
    last = max(first + 1, round(width * end / total))
    return " " * first + "█" * (last - first)


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return timestamp(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} cannot be encoded in a document")
