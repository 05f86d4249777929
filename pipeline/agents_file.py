"""The agents file: which program runs each agent, build and policy hook. Parsed from TOML text."""

import json
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import PurePath, PurePosixPath
from types import MappingProxyType

from pipeline.accounts import AfterLimit
from pipeline.agent_programs import (
    PROGRAM_KEYS,
    ProgramAgent,
    ProgramTraits,
    optional_usd,
    read_instructions,
    read_program_agent,
)
from pipeline.budgets import RunBudget
from pipeline.delivery_settings import DeliverySettings, read_delivery
from pipeline.errors import AgentsFileRefused
from pipeline.model import Pipeline, Stage
from pipeline.plan_rules import is_build_name
from pipeline.team import AGENT_NAME, TEAM, Side, is_agent_name
from pipeline.toml_table import Table, read_table, resolved

# --- the policy hook: the table `[sasha]` ---------------------------------------------------------

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
        resolved(table.program("command"), directory),
        timedelta(seconds=seconds),
        table.variables("environment"),
    )


# --- agents and builds ----------------------------------------------------------------------------

MINUTE_SECONDS = 1.0
"""How long a simulated minute takes where the file does not say."""
MINUTES_LIMIT = 30 * 24 * 60
SECONDS_LIMIT = 24 * 60 * 60
BUILD_ARGV = ("npm", "run", "build")
BUILD_TIMEOUT = timedelta(seconds=300)
"""Bound of one build (the original's five minutes, original-behaviour section 6)."""

_COMMAND_KEYS = (
    *("kind", "command", "environment", "prompt_file", "instructions", "expected_usd"),
    "prepare",
)
_SIMULATED_KEYS = ("kind", "minutes", "notice")
_AGENT_KEYS = {"command": _COMMAND_KEYS, "simulated": _SIMULATED_KEYS}
_OF_ONE_KIND = (
    *("program", "model", "arguments", "max_turns", "max_budget_usd", "expected_usd", "account"),
    "resume_for_fixes",
)
"""Keys of the defaults that do not hold for an agent of another kind than theirs."""
_BUILD_KEYS = {
    "command": (
        "kind",
        "directory",
        "command",
        "prepare",
        "timeout_seconds",
        "environment",
        "incremental",
    ),
    "simulated": ("kind", "minutes", "passes"),
}


@dataclass(frozen=True)
class CommandAgent:
    """An agent that is a program: argv, and the names of the variables let through to it.

    A relative program path with a slash is relative to the agents file.
    """

    command: tuple[str, ...]
    environment: tuple[str, ...] = ()
    prompt_file: PurePath | None = None
    instructions: str = ""
    expected_usd: float | None = None


@dataclass(frozen=True)
class SimulatedAgent:
    """No process: sleeps the stage's minutes (or `minutes`) and answers.

    `notice` is laid over the role's green notice.
    """

    minutes: float | None = None
    notice: Mapping[str, object] = field(default_factory=dict)


Agent = CommandAgent | SimulatedAgent | ProgramAgent

_OTHER = "*"
"""Stands for every agent that the file does not name; no agent is called that."""


@dataclass(frozen=True)
class BuildCommand:
    """A build that is a program, in `directory` of the build worktree.

    It is built in a fresh checkout each time, after `prepare`. An `incremental` one keeps its
    checkout between the gates before stages, and prepares it again when a lock file has changed;
    what a delivery stands on is built clean all the same.
    """

    directory: str
    command: tuple[str, ...]
    prepare: tuple[str, ...] = ()
    timeout: timedelta = BUILD_TIMEOUT
    environment: tuple[str, ...] = ()
    incremental: bool = False


@dataclass(frozen=True)
class SimulatedBuild:
    """A build without a process: sleeps its minutes; green unless told otherwise."""

    minutes: float = 0.0
    passes: bool = True


@dataclass(frozen=True)
class AgentsFile:
    """The whole file, checked: agents and builds by name, how long a simulated minute takes.

    `sasha` is None where the rules alone answer questions.
    """

    source: str
    directory: PurePath
    agents: Mapping[str, Agent]
    builds: Mapping[str, BuildCommand | SimulatedBuild]
    minute_seconds: float
    sasha: PolicyHookCommand | None = None
    prepares: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Builds that are prepared for an agent, where the file says it."""
    delivery: DeliverySettings = field(default_factory=DeliverySettings)
    other: Agent | None = None
    """What `[defaults]` say of an agent that a pipeline declares; None if they say too little."""

    def agent(self, name: str) -> Agent | None:
        """How that agent runs; None if the file does not say it."""
        return self.agents.get(name, self.other)

    def prepared(self, stage: Stage) -> tuple[str, ...]:
        """The builds whose `prepare` runs in the clone of the stage's agent, before it starts.

        Where the file does not say it: of who works on a side that side's and those of the stage,
        of who runs the whole project all. Each command runs once.
        """
        agent, program = stage.member, self.agent(stage.agent)
        is_remote = isinstance(program, ProgramAgent) and program.is_remote
        if is_remote or isinstance(program, SimulatedAgent | None):
            return ()
        names: Iterable[str] = ()
        described = stage.agent if stage.agent in self.agents else _OTHER
        if described in self.prepares:
            names = self.prepares[described]
        elif agent.runs_project:
            names = (*agent.side_builds, *stage.builds) if agent.side else self.builds
        once: dict[tuple[str, tuple[str, ...]], str] = {}
        for name in names:
            build = self.builds.get(name)
            if isinstance(build, BuildCommand) and build.prepare:
                once.setdefault((build.directory, build.prepare), str(name))
        return tuple(once.values())

    @property
    def build_directories(self) -> Mapping[str, str]:
        """Where the builds that are programs are made, by their names."""
        return {
            name: build.directory
            for name, build in self.builds.items()
            if isinstance(build, BuildCommand)
        }

    def is_incremental(self, build: str) -> bool:
        """Whether that build may keep its checkout where nothing is delivered on its evidence."""
        found = self.builds.get(build)
        return isinstance(found, BuildCommand) and found.incremental

    def account(self, agent: str) -> str:
        """The account that the agent's program works with; empty if nothing is known of one."""
        found = self.agent(agent)
        return found.account if isinstance(found, ProgramAgent) else ""

    def after_limit(self, agent: str) -> AfterLimit:
        """What happens once a usage limit of its account is over."""
        found = self.agent(agent)
        return found.after_limit if isinstance(found, ProgramAgent) else AfterLimit.RESUME

    def run_budget(self, agent: str) -> RunBudget:
        """What one run of the agent may cost, as far as the file says."""
        found = self.agent(agent)
        if isinstance(found, ProgramAgent):
            return RunBudget(found.max_budget_usd, found.expected_usd)
        if isinstance(found, CommandAgent):
            return RunBudget(None, found.expected_usd)
        return RunBudget(None, None if found is None else 0.0)

    def is_simulated(self, pipeline: Pipeline) -> bool:
        """Whether that pipeline runs no process at all, so that it needs no project."""
        agents = (self.agent(stage.agent) for stage in pipeline.stages)
        builds = (self.builds.get(build) for build in pipeline.builds)
        return all(isinstance(agent, SimulatedAgent) for agent in agents) and all(
            isinstance(build, SimulatedBuild) for build in builds
        )


def strangers(agents: AgentsFile, pipelines: Iterable[Pipeline]) -> tuple[str, ...]:
    """One line for each agent of the file that none of these pipelines has, perhaps by a slip."""
    known = {*TEAM, *(stage.agent for pipeline in pipelines for stage in pipeline.stages)}
    return tuple(
        f"agents.{name}: neither one of the eleven nor declared by a pipeline that is known here"
        for name in agents.agents
        if name not in known
    )


CurrentAgents = Callable[[], AgentsFile]
"""Gives the agents file for what starts now: somebody may have edited it."""


def check_plan(agents: AgentsFile, pipeline: Pipeline) -> None:
    """Refuse a pipeline that names an agent or a build which the file does not describe.

    Raises: AgentsFileRefused naming the first one.
    """
    for stage in pipeline.stages:
        if agents.agent(stage.agent) is None:
            reason = f"is missing; stage {stage.name!r} of {pipeline.name!r} needs it"
            raise AgentsFileRefused(agents.source, f"agents.{stage.agent}", reason)
    for build in pipeline.builds:
        if build not in agents.builds:
            reason = f"is missing; pipeline {pipeline.name!r} verifies it"
            raise AgentsFileRefused(agents.source, f"builds.{build}", reason)


def read_agents(
    text: str,
    source: str,
    directory: PurePath,
    programs: Mapping[str, ProgramTraits] = MappingProxyType({}),
) -> AgentsFile:
    """The agents file that a text describes; relative programs start from `directory`.

    `programs` are the kinds of agents that are known programs, by their names.

    Raises: AgentsFileRefused naming file, key and reason.
    """
    table = read_table(text, lambda key, reason: AgentsFileRefused(source, key, reason))
    table.allow(("defaults", "agents", "simulation", "builds", "sasha", "delivery"))
    simulation = table.table("simulation")
    simulation.allow(("minute_seconds",))
    team = _Agents(table.table("defaults"), directory, programs)
    agents = team.read(table.table("agents"))
    builds = _builds(table.table("builds"), agents)
    other = team.other()
    _check_prepares(table.table("agents"), team.prepares, builds)
    return AgentsFile(
        source=source,
        directory=directory,
        agents=agents,
        builds=builds,
        prepares=team.prepares,
        other=other,
        minute_seconds=simulation.number(
            "minute_seconds", MINUTE_SECONDS, most=SECONDS_LIMIT, zero=True
        ),
        sasha=read_policy_hook(table.table("sasha"), directory)
        if "sasha" in table.values
        else None,
        delivery=read_delivery(table.table("delivery"), directory),
    )


class _Agents:
    """The agents of a file; one without a table of its own is what `[defaults]` say."""

    def __init__(
        self, defaults: Table, directory: PurePath, programs: Mapping[str, ProgramTraits]
    ) -> None:
        self._defaults = defaults
        self._directory = directory
        self._programs = programs
        self._keys = {**_AGENT_KEYS, **dict.fromkeys(programs, (*PROGRAM_KEYS, "prepare"))}
        self.prepares: dict[str, tuple[str, ...]] = {}

    def read(self, tables: Table) -> Mapping[str, Agent]:
        for name in tables.values:
            if not is_agent_name(name):
                tables.refuse(name, AGENT_NAME)
        self._defaults.allow(dict.fromkeys(key for keys in self._keys.values() for key in keys))
        names = [*tables.values, *(name for name in TEAM if name not in tables.values)]
        return {
            name: self._agent(name, tables.table(name))
            for name in names
            if name in tables.values or self._defaults_suffice()
        }

    def other(self) -> Agent | None:
        """What the defaults say of an agent that the file does not name."""
        own = Table({}, self._defaults.place, self._defaults.refusal)
        return self._agent(_OTHER, own) if self._defaults_suffice() else None

    def _defaults_suffice(self) -> bool:
        """Whether they describe an agent: a command needs its program, other kinds need nothing."""
        return "command" in self._defaults.values or self._kind(self._defaults) != "command"

    def _agent(self, name: str, own: Table) -> Agent:
        kind = self._kind(own if "kind" in own.values else self._defaults)
        keys = self._keys[kind]
        own.allow(keys)
        is_usual = kind == self._kind(self._defaults)
        usual = {
            key: value
            for key, value in self._defaults.values.items()
            if key in keys
            and (is_usual or (key not in _OF_ONE_KIND and key not in self._lacks(kind)))
        }
        table = Table({**usual, **own.values}, own.place, own.refusal)
        if "prepare" in table.values:
            self.prepares[name] = table.strings("prepare")
        if traits := self._programs.get(kind):
            names = table.variables("environment")
            agent = read_program_agent(table, kind, traits, self._directory, names)
            is_own = traits.is_remote and "account" not in table.values and name != _OTHER
            # What holds one that works elsewhere, such as the want of a host, is its own matter.
            return replace(agent, account=f"{kind}-{name}") if is_own else agent
        if kind == "command":
            argv = resolved(table.program("command"), self._directory)
            names = table.variables("environment")
            file, text = read_instructions(table, self._directory)
            return CommandAgent(argv, names, file, text, optional_usd(table, "expected_usd"))
        minutes = (
            table.number("minutes", most=MINUTES_LIMIT, zero=True)
            if "minutes" in table.values
            else None
        )
        return SimulatedAgent(minutes, _notice(table))

    def _lacks(self, kind: str) -> Collection[str]:
        """The keys that a kind cannot hold."""
        return self._programs[kind].lacks if kind in self._programs else ()

    def _kind(self, table: Table) -> str:
        return _kind(table, self._keys)


def _kind(table: Table, known: Iterable[str]) -> str:
    kind = table.string("kind", "command")
    if kind not in known:
        table.refuse("kind", f"unknown kind {kind!r}; known are {', '.join(known)}")
    return kind


def _notice(table: Table) -> Mapping[str, object]:
    notice = table.table("notice")
    try:
        json.dumps(notice.values, allow_nan=False)
    except (TypeError, ValueError):
        notice.refuse("", "holds a value that JSON cannot express")
    return notice.values


def _builds(
    tables: Table, agents: Mapping[str, Agent]
) -> Mapping[str, BuildCommand | SimulatedBuild]:
    """Both sides are always there; where nobody changes anything, one left out builds nothing."""
    names = dict.fromkeys([*map(str, Side), *tables.values])
    builds = {name: _build(tables.table(name), name) for name in names}
    if agents and all(isinstance(agent, SimulatedAgent) for agent in agents.values()):
        left_out = {name: SimulatedBuild() for name in names if name not in tables.values}
        return {**builds, **left_out}
    return builds


def _check_prepares(
    tables: Table, prepares: Mapping[str, tuple[str, ...]], builds: Iterable[str]
) -> None:
    """Refuse what no build is called, in the words of the agent's table."""
    for agent, names in prepares.items():
        if unknown := [name for name in names if name not in builds]:
            known = ", ".join(builds)
            table = tables.table(agent) if agent in tables.values else tables
            table.refuse("prepare", f"there is no build {unknown[0]!r}; there are {known}")


def _build(table: Table, name: str) -> BuildCommand | SimulatedBuild:
    if not is_build_name(name):
        table.refuse("", "must be called by lower-case letters, digits and hyphens")
    kind = _kind(table, _BUILD_KEYS)
    table.allow(_BUILD_KEYS[kind])
    if kind == "simulated":
        return SimulatedBuild(
            table.number("minutes", 0.0, most=MINUTES_LIMIT, zero=True),
            table.boolean("passes", default=True),
        )
    seconds = table.number("timeout_seconds", BUILD_TIMEOUT.total_seconds(), most=SECONDS_LIMIT)
    return BuildCommand(
        directory=_inside(table, "directory", name),
        command=table.program("command", BUILD_ARGV),
        prepare=table.program("prepare") if "prepare" in table.values else (),
        timeout=timedelta(seconds=seconds),
        environment=table.variables("environment"),
        incremental=table.boolean("incremental", default=False),
    )


def _inside(table: Table, key: str, default: str) -> str:
    path = PurePosixPath(table.string(key, default))
    if path.is_absolute() or ".." in path.parts or "\0" in str(path):
        table.refuse(key, "must be a relative path that stays inside the build worktree")
    return str(path)
