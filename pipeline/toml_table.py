"""Typed access to the tables of a TOML text: a refusal names file, key and reason.

Shared by the user formats; what a key means belongs to their own modules.
"""

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import NoReturn

from pipeline.errors import RefusedInput

Refusal = Callable[[str, str], RefusedInput]
"""Makes the error of a file from a key and a reason."""

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Table:
    """One table and the place where it stands."""

    values: Mapping[str, object]
    place: str
    refusal: Refusal

    def refuse(self, key: str, reason: str) -> NoReturn:
        """Raise the file's own error for that key; an empty key means the table itself."""
        raise self.refusal(".".join(filter(None, (self.place, key))), reason)

    def moved(self, place: str) -> "Table":
        """The same values under a place that says more."""
        return Table(self.values, place, self.refusal)

    def allow(self, keys: Iterable[str]) -> None:
        """Refuse any key but these."""
        allowed = tuple(keys)
        for key in self.values:
            if key not in allowed:
                self.refuse(key, f"unknown key; known are {', '.join(allowed)}")

    def string(self, key: str, default: str | None = None) -> str:
        """A string that is not empty; required where there is no default."""
        value = self._value(key, default)
        if not isinstance(value, str) or not value:
            self.refuse(key, "must be a string that is not empty")
        return value

    def strings(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A list of strings, none of them empty; required where there is no default."""
        value = self._value(key, default)
        if not isinstance(value, list | tuple):
            self.refuse(key, "must be a list of strings")
        if not all(isinstance(item, str) and item for item in value):
            self.refuse(key, "must hold strings that are not empty")
        return tuple(value)

    def program(self, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
        """A program and its arguments; required where there is no default."""
        argv = self.strings(key, default)
        if not argv:
            self.refuse(key, "must name a program")
        if any("\0" in argument for argument in argv):
            self.refuse(key, "must not hold a null character")
        return argv

    def variables(self, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Names of environment variables."""
        names = self.strings(key, default)
        for name in names:
            if not _VARIABLE.fullmatch(name):
                self.refuse(key, f"{name!r} is not the name of a variable")
        return names

    def number(
        self, key: str, default: float | None = None, *, most: float, zero: bool = False
    ) -> float:
        """A finite number above zero (or from zero on), at most `most`."""
        value = self._value(key, default)
        # to Python a boolean is a number, to a user it is a slip
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.refuse(key, "must be a number")
        if not math.isfinite(value) or value < 0 or (value == 0 and not zero):
            self.refuse(key, f"must be {'zero or more' if zero else 'above zero'} and finite")
        if value > most:
            self.refuse(key, f"must be at most {most:g}")
        return float(value)

    def integer(self, key: str, default: int, *, most: int) -> int:
        """A whole number from zero to `most`."""
        value = self._value(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            self.refuse(key, f"must be a whole number from 0 to {most}")
        return value

    def boolean(self, key: str, *, default: bool) -> bool:
        """True or false, nothing that merely looks like it."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "must be true or false")
        return value

    def table(self, key: str) -> "Table":
        """A table below this one, empty where it is absent."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            self.refuse(key, "must be a table")
        return Table(value, ".".join(filter(None, (self.place, key))), self.refusal)

    def tables(self, key: str) -> tuple["Table", ...]:
        """The tables of a list that is not empty."""
        value = self._value(key, None)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self.refuse(key, f"must be a list of tables, each under [[{key}]]")
        if not value:
            self.refuse(key, "must not be empty")
        return tuple(
            Table(item, f"{key}[{position}]", self.refusal) for position, item in enumerate(value)
        )

    def _value(self, key: str, default: object) -> object:
        value = self.values.get(key, default)
        if value is None:
            self.refuse(key, "is missing")
        return value


def read_table(text: str, refusal: Refusal) -> Table:
    """The whole text as one table. Raises: what `refusal` makes, for text that is not TOML."""
    try:
        return Table(tomllib.loads(text), "", refusal)
    except ValueError as error:  # syntax, and numbers beyond what Python converts
        raise refusal("TOML", str(error)) from error
    except RecursionError as error:
        raise refusal("TOML", "is nested too deeply") from error


def resolved(argv: tuple[str, ...], directory: PurePath) -> tuple[str, ...]:
    """The same, a program path with a slash in it being relative to the directory."""
    program = str(directory / argv[0]) if "/" in argv[0] else argv[0]
    return (program, *argv[1:])
