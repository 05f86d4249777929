"""Keys of the agents file that name a program: its argv, and the variables let through to it."""

import re
from pathlib import PurePath

from pipeline.toml_table import Table

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def program_argv(table: Table, key: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The program and its arguments; required where there is no default."""
    argv = table.strings(key, default)
    if not argv:
        table.refuse(key, "must name a program")
    if any("\0" in argument for argument in argv):
        table.refuse(key, "must not hold a null character")
    return argv


def resolved(argv: tuple[str, ...], directory: PurePath) -> tuple[str, ...]:
    """The same, a program path with a slash in it being relative to the directory."""
    program = str(directory / argv[0]) if "/" in argv[0] else argv[0]
    return (program, *argv[1:])


def variables(table: Table, key: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names of the variables that are let through to the program."""
    names = table.strings(key, default)
    for name in names:
        if not _VARIABLE.fullmatch(name):
            table.refuse(key, f"{name!r} is not the name of a variable")
    return names
