"""The agents file: which agent runs how, and how each side is built. Parsed from TOML text."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import PurePath

BUILD_TIMEOUT = timedelta(seconds=300)
"""Bound of one build (the original's five minutes, original-behaviour section 6)."""


@dataclass(frozen=True)
class CommandAgent:
    """An agent that is a program: argv, and the names of the variables let through to it.

    A relative program path with a slash is relative to the agents file.
    """

    command: tuple[str, ...]
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class SimulatedAgent:
    """No process: sleeps the stage's minutes (or `minutes`) and answers.

    `notice` is laid over the role's green notice.
    """

    minutes: float | None = None
    notice: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class BuildCommand:
    """A build that is a program, in `directory` of the build worktree.

    `prepare` runs in a new worktree and again when a lock file has changed.
    """

    directory: str
    command: tuple[str, ...]
    prepare: tuple[str, ...] = ()
    timeout: timedelta = BUILD_TIMEOUT
    environment: tuple[str, ...] = ()


@dataclass(frozen=True)
class SimulatedBuild:
    """A build without a process: sleeps its minutes; green unless told otherwise."""

    minutes: float = 0.0
    passes: bool = True


@dataclass(frozen=True)
class AgentsFile:
    """The whole file, checked. Agents and builds by name; `minute_seconds` is a simulated minute."""

    source: str
    directory: PurePath
    agents: Mapping[str, CommandAgent | SimulatedAgent]
    builds: Mapping[str, BuildCommand | SimulatedBuild]
    minute_seconds: float
