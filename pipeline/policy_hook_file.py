"""The table `[sasha]` of the agents file: a program that looks at answers once more."""

from dataclasses import dataclass
from datetime import timedelta
from pathlib import PurePath

from pipeline.programs import program_argv, resolved, variables
from pipeline.toml_table import Table

ADVICE_TIMEOUT = timedelta(seconds=20)
"""An asker waits for it: one answer of a small model."""
ADVICE_SECONDS_LIMIT = 300


@dataclass(frozen=True)
class PolicyHookCommand:
    """A program that advises Sasha on one question: it reads JSON on stdin and answers JSON."""

    command: tuple[str, ...]
    timeout: timedelta
    environment: tuple[str, ...] = ()


def read_policy_hook(table: Table, directory: PurePath) -> PolicyHookCommand:
    """The program that a table describes; a relative one starts from `directory`."""
    table.allow(("command", "timeout_seconds", "environment"))
    seconds = table.number(
        "timeout_seconds", ADVICE_TIMEOUT.total_seconds(), most=ADVICE_SECONDS_LIMIT
    )
    return PolicyHookCommand(
        resolved(program_argv(table, "command"), directory),
        timedelta(seconds=seconds),
        variables(table, "environment"),
    )
