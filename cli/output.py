"""How the command line speaks: data on stdout, everything else on stderr.

No colour or animation where nobody looks: Rich knows terminals and `NO_COLOR`.
"""

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from datetime import datetime
from functools import partial
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pipeline.events import timestamp

SCHEMA_VERSION = 1
PIPE_WIDTH = 200
"""Columns where there is no terminal: a line that a script reads is not folded at 80."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

_console = partial(Console, highlight=False, markup=False, emoji=False)


def data() -> Console:
    """The console of stdout."""
    return _console(width=None if sys.stdout.isatty() else PIPE_WIDTH)


def progress() -> Console:
    """The console of stderr."""
    return _console(stderr=True, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def say(text: str) -> None:
    """A line of progress."""
    progress().print(plain(text), soft_wrap=True)


def complain(text: str) -> None:
    """An error: one clear sentence and what to do."""
    console = progress()
    console.print("Error: ", style="bold red", end="")
    console.print(plain(text), soft_wrap=True)


def write(text: str) -> None:
    """A line of data, as it is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def write_json(document: Mapping[str, object]) -> None:
    """One document with its schema version."""
    body = {"schema_version": SCHEMA_VERSION, **document}
    write(json.dumps(body, default=_encode, ensure_ascii=False, indent=2))


def write_json_line(document: Mapping[str, object]) -> None:
    """One document of a stream, on one line."""
    body = {"schema_version": SCHEMA_VERSION, **document}
    write(json.dumps(body, default=_encode, ensure_ascii=False))


def table(*columns: str, numbers: tuple[str, ...] = (), fold: tuple[str, ...] = ()) -> Table:
    """An empty table of the house's look; the columns in `numbers` stand to the right.

    Where the terminal is narrow, the columns in `fold` give way: numbers and names are copied.
    """
    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        made.add_column(column, justify=justify, no_wrap=column not in fold, overflow="fold")
    return made


def plain(text: str) -> str:
    """The text without control characters: an agent's output must not steer a terminal."""
    return _CONTROL.sub("\ufffd", text.replace("\r\n", "\n"))


def unfolded(text: Text) -> Text:
    """The text, whose lines the terminal folds itself: a path or command is copied whole.

    To be printed with `crop=False`.
    """
    text.no_wrap, text.overflow = True, "ignore"
    return text


def first_line(text: str) -> str:
    """What stands before the first line break."""
    return text.partition("\n")[0]


def clock(at: datetime | None) -> str:
    """A time of day for humans, in their own zone."""
    return at.astimezone().strftime("%H:%M:%S") if at else ""


def moment(at: datetime) -> str:
    """A second for humans, in their own zone, with its day."""
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def since(at: datetime, now: datetime) -> str:
    """A minute for humans, in their own zone; its day if it is not that of `now`."""
    local = at.astimezone()
    is_today = local.date() == now.astimezone().date()
    return local.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")


def duration(seconds: float) -> str:
    """Seconds in the two largest units that say something."""
    if round(seconds, 1) < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s"


def _encode(value: object) -> object:
    if isinstance(value, datetime):
        return timestamp(value)
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{type(value).__name__} has no place in a document")
