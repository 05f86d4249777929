"""Agents that are known programs: the keys of their table in the agents file, checked.

What a kind is called, and which of the keys it cannot hold, its adapter says in its traits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath

from pipeline.accounts import AfterLimit
from pipeline.toml_table import Table

TURNS_LIMIT = 10_000
BUDGET_LIMIT_USD = 100_000

PROGRAM_KEYS = (
    "kind",
    "program",
    "model",
    "arguments",
    "max_turns",
    "max_budget_usd",
    "expected_usd",
    "prompt_file",
    "permissions",
    "environment",
    "instructions",
    "isolation",
    "account",
    "resume_after_limit",
    "resume_for_fixes",
)


class Permission(StrEnum):
    """What an agent may do; its adapter says it in the program's own words."""

    READ = "read"
    EDIT = "edit"
    RUN = "run"
    """Edit, and run the commands that are named."""
    EVERYTHING = "everything"


@dataclass(frozen=True)
class ProgramTraits:
    """What the agents file must know of a kind: its usual program, and what it cannot hold.

    `lacks` names keys, or `permissions.` with a value, each with what to do instead. `tested` is
    the version that its adapter was tested with. The agent of one that `is_remote` works on another
    machine, whose own agents file says how.
    """

    program: str
    lacks: Mapping[str, str] = field(default_factory=dict)
    tested: str = ""
    is_remote: bool = False


@dataclass(frozen=True)
class ProgramAgent:
    """An agent that is a program of a known kind, in the words of the agents file.

    `commands` begin the commands that it may run with `permission` RUN. `isolation` keeps out what
    the repository brings along for the program: settings, hooks, servers. `after_limit` says what
    happens once a usage limit of its `account` is over. With `resume_for_fixes` its fix of a stage
    begins with a copy of the session in which it did that stage. A run is held to `max_budget_usd`,
    and usually costs `expected_usd`. One that `is_remote` works on another machine.
    """

    kind: str
    program: str
    account: str
    model: str = ""
    arguments: tuple[str, ...] = ()
    max_turns: int | None = None
    max_budget_usd: float | None = None
    expected_usd: float | None = None
    prompt_file: PurePath | None = None
    permission: Permission = Permission.EDIT
    commands: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    instructions: str = ""
    isolation: bool = True
    after_limit: AfterLimit = AfterLimit.RESUME
    resume_for_fixes: bool = False
    is_remote: bool = False


def read_program_agent(
    table: Table, kind: str, traits: ProgramTraits, directory: PurePath, names: tuple[str, ...]
) -> ProgramAgent:
    """The agent that a table describes; `names` are the variables that it lets through.

    Raises: the table's refusal, with key and remedy.
    """
    for key, remedy in traits.lacks.items():
        if key in table.values:
            table.refuse(key, f"cannot be held by {kind}: {remedy}")
    permission, commands = _permissions(table, kind, traits)
    program = _text(table, "program", traits.program)
    prompt_file, instructions = read_instructions(table, directory)
    return ProgramAgent(
        kind=kind,
        program=str(directory / program) if "/" in program else program,
        account=_text(table, "account", kind),
        model=_text(table, "model", ""),
        arguments=_arguments(table),
        max_turns=_turns(table),
        max_budget_usd=optional_usd(table, "max_budget_usd"),
        expected_usd=optional_usd(table, "expected_usd"),
        prompt_file=prompt_file,
        permission=permission,
        commands=commands,
        environment=names,
        instructions=instructions,
        isolation=table.boolean("isolation", default=True),
        after_limit=_after_limit(table),
        resume_for_fixes=table.boolean("resume_for_fixes", default=False),
        is_remote=traits.is_remote,
    )


def read_instructions(table: Table, directory: PurePath) -> tuple[PurePath | None, str]:
    """What is laid over an agent's prompt: from a file, relative to `directory`, and as text."""
    name = _text(table, "prompt_file", "")
    text = table.string("instructions") if "instructions" in table.values else ""
    return directory / name if name else None, text


def optional_usd(table: Table, key: str) -> float | None:
    """An amount of dollars above zero; None where the key is left out."""
    return table.number(key, most=BUDGET_LIMIT_USD) if key in table.values else None


def _text(table: Table, key: str, default: str) -> str:
    """A word of a command line: a value that begins with a hyphen would be taken for an option."""
    if key not in table.values:
        return default
    text = table.string(key)
    if text.startswith("-") or not text.isprintable():
        table.refuse(key, f"{text[:80]!r} must be one printable line that begins without a hyphen")
    return text


def _arguments(table: Table) -> tuple[str, ...]:
    arguments = table.strings("arguments", ())
    if any("\0" in argument for argument in arguments):
        table.refuse("arguments", "must not hold a null character")
    return arguments


def _turns(table: Table) -> int | None:
    if "max_turns" not in table.values:
        return None
    turns = table.integer("max_turns", 0, most=TURNS_LIMIT)
    if not turns:
        table.refuse("max_turns", "must be at least 1; leave it out for no limit")
    return turns


def _after_limit(table: Table) -> AfterLimit:
    value = table.values.get("resume_after_limit", AfterLimit.RESUME)
    if value not in tuple(AfterLimit):
        table.refuse("resume_after_limit", 'must be "resume" or "ask"')
    return AfterLimit(str(value))


def _permissions(
    table: Table, kind: str, traits: ProgramTraits
) -> tuple[Permission, tuple[str, ...]]:
    value = table.values.get("permissions", str(Permission.EDIT))
    named = (Permission.READ, Permission.EDIT, Permission.EVERYTHING)
    commands: tuple[str, ...] = ()
    if isinstance(value, dict):
        listed = table.table("permissions")
        listed.allow((Permission.RUN,))
        commands, permission = listed.strings(Permission.RUN), Permission.RUN
        _check_commands(listed, commands)
    elif value in named:
        permission = Permission(str(value))
    else:
        known = ", ".join(f'"{each}"' for each in named)
        table.refuse("permissions", f'must be {known}, or {{ run = ["npm test", …] }}')
    if remedy := traits.lacks.get(f"permissions.{permission}"):
        table.refuse("permissions", f'"{permission}" cannot be held by {kind}: {remedy}')
    return permission, commands


def _check_commands(table: Table, commands: tuple[str, ...]) -> None:
    """A command is the beginning of a command line; no program's rules take all characters."""
    if not commands:
        table.refuse(Permission.RUN, 'must name a command; to run none use permissions = "edit"')
    for command in commands:
        if not can_be_named(command):
            table.refuse(
                Permission.RUN,
                f"{command[:80]!r} must be the beginning of a command line, such as npm test,"
                ' without ( ) * , " and backslash',
            )


def can_be_named(command: str) -> bool:
    """Whether every program's rules can say that command lines may begin so."""
    is_plain = command.isprintable() and command == command.strip()
    return is_plain and not set(command) & set('()*"\\,')
