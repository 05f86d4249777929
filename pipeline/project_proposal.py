"""What `init` proposes for a project: pipeline, agents and builds, each with its reason."""

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from pipeline.errors import RefusedInput
from pipeline.project_files import listed, printable
from pipeline.project_sides import SideFound, Sides
from pipeline.team import Side

BUILD_SECONDS = 900
"""Bound of `prepare` and of the command, each: a first install downloads everything."""

_LINE = 98
_PIPELINES: Mapping[tuple[Side, ...], str] = {
    (Side.BACKEND,): "one-sided",
    (Side.FRONTEND,): "one-sided-frontend",
}
_READING = ("git status", "git diff", "git log", "git show")
_WITH_SANDBOX = ("codex",)
"""Kinds whose permission to edit includes commands, in a sandbox of their own."""


class Login(StrEnum):
    """Whether a program can reach its model, as far as it can be told without asking the model."""

    LOGGED_IN = "logged in"
    KEY = "key set"
    UNKNOWN = "login unknown"
    NONE = "not logged in"


@dataclass(frozen=True)
class ProgramFound:
    """A coding agent's program on this host; `flaw` says what is wrong and what to do."""

    kind: str
    program: str
    path: str
    version: str
    login: Login
    flaw: str = ""

    @property
    def is_ready(self) -> bool:
        """Whether nothing is known that would keep it from working."""
        return self.login is not Login.NONE and not self.flaw

    @property
    def told(self) -> str:
        """The program with its version and login."""
        return f"{self.program} {self.version or '(version unknown)'}, {self.login}"


@dataclass(frozen=True)
class Remotes:
    """The remotes of the project, and whether pull requests can be made on them.

    `has_gh` says that the program of the usual command for that is on PATH.
    """

    names: tuple[str, ...] = ()
    has_gh: bool = False

    @property
    def usual(self) -> str:
        """The one to push to; empty if there is none."""
        return "origin" if "origin" in self.names else next(iter(self.names), "")


NO_REMOTES = Remotes()


@dataclass(frozen=True)
class Proposal:
    """Everything that is written, and why."""

    project: str
    pipeline: str
    pipeline_reason: str
    kind: str
    kind_reason: str
    permissions: str | tuple[str, ...]
    """`edit`, or the commands that may also be run."""
    permissions_reason: str
    programs: tuple[ProgramFound, ...]
    sides: tuple[SideFound, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    remotes: Remotes = NO_REMOTES

    @property
    def settings(self) -> Mapping[str, str]:
        """Variables that say the same to every later command."""
        return {"PROJECT_ROOT": self.project, "AGOG_PIPELINE": self.pipeline}

    @property
    def document(self) -> Mapping[str, object]:
        """The proposal as data."""
        run = list(self.permissions) if isinstance(self.permissions, tuple) else None
        return {
            "project": self.project,
            "pipeline": {"name": self.pipeline, "reason": self.pipeline_reason},
            "agents": {
                "kind": self.kind,
                "reason": self.kind_reason,
                "permissions": {"run": run} if run else self.permissions,
                "permissions_reason": self.permissions_reason,
            },
            "programs": [{**asdict(each), "ready": each.is_ready} for each in self.programs],
            "builds": {
                side.side: {key: value for key, value in asdict(side).items() if key != "side"}
                for side in self.sides
            },
            "delivery": {"mode": "fast-forward", "remotes": self.remotes.names},
            "notes": self.notes,
            "offers": self.offers,
            "warnings": self.warnings,
        }

    @property
    def offers(self) -> tuple[str, ...]:
        """What else this project may be worked on with, in sentences."""
        return (*filter(None, map(_teams, self.sides)), *_delivery_offer(self.remotes))

    def agents_file(self) -> str:
        """The text of the agents file."""
        parts = (self._head(), self._agents(), self._builds(), self._delivery())
        return "\n".join(line for part in parts for line in part) + "\n"

    def _head(self) -> Iterator[str]:
        yield from _comment(
            f"Written by `starter.py init` for {printable(self.project)}. It is yours to edit:"
            " agents.example.toml shows what else can be said. An edit is taken for what starts"
            " next."
        )
        yield from _comment(f"Pipeline: {self.pipeline}, because {self.pipeline_reason}.")
        yield from (line for note in self.notes for line in _comment(f"Left out: {note}."))
        yield from (line for side in self.sides for line in _comment(_teams(side)))

    def _agents(self) -> Iterator[str]:
        yield from ("", "# All agents; a table of its own, such as [agents.roy], changes one.")
        yield "[defaults]"
        yield from _comment(self.kind_reason)
        yield f"kind = {toml_value(self.kind)}"
        yield from _comment(self.permissions_reason)
        yield f"permissions = {_toml_permissions(self.permissions)}"
        others = (each for each in self.programs if each.kind != self.kind and each.is_ready)
        if other := next(others, None):
            permissions, _ = _permissions(other.kind, self.sides)
            yield from ("", *_comment(f"Also here: {other.told}. A second pair of eyes:"))
            yield from ("# [agents.sylvia]", f"# kind = {toml_value(other.kind)}")
            yield f"# permissions = {_toml_permissions(permissions)}"

    def _delivery(self) -> Iterator[str]:
        for offer in _delivery_offer(self.remotes):
            mode = "pull-request" if self.remotes.has_gh else "branch"
            other = "branch" if self.remotes.has_gh else "pull-request"
            yield from ("", *_comment(offer), "# [delivery]")
            yield f'# mode = {toml_value(mode)}  # or "{other}"'
            yield f"# remote = {toml_value(self.remotes.usual)}"

    def _builds(self) -> Iterator[str]:
        for side in self.sides:
            yield from ("", f"[builds.{side.side}]")
            yield from _comment(side.directory_reason)
            yield f"directory = {toml_value(side.directory)}"
            if side.prepare:
                yield from _comment(f"from {side.prepare_reason}")
                yield f"prepare = {toml_value(side.prepare)}"
            yield from _comment(side.command_reason)
            yield f"command = {toml_value(side.command)}"
            yield from _comment("for each of the two; a first install downloads everything")
            yield f"timeout_seconds = {BUILD_SECONDS}"


def _teams(side: SideFound) -> str:
    if not side.parts:
        return ""
    return (
        f"One agent works on all parts of the {side.side}: {listed(side.parts)}. For a team with an"
        " implementer of each, copy pipelines/monorepo.toml, which explains it, and set"
        " AGOG_PIPELINE to the copy."
    )


def _delivery_offer(remotes: Remotes) -> Iterator[str]:
    if remotes.usual:
        missing = "" if remotes.has_gh else " (for which gh, or another program, is missing)"
        yield (
            "Work is delivered by moving the branch that is checked out here; nothing is pushed."
            f" With [delivery] it gets a branch of its own, pushed to {remotes.usual}, and a pull"
            f" request{missing}."
        )


def propose(
    project: str, sides: Sides, programs: Sequence[ProgramFound], remotes: Remotes = NO_REMOTES
) -> Proposal:
    """The proposal for a project and the programs of this host, the preferred ones first.

    Raises: RefusedInput if there is no program or no build.
    """
    if not programs:
        raise RefusedInput(
            "No coding agent's program is on PATH: install Claude Code (claude), Codex (codex) or"
            " Gemini CLI (gemini) and log in. For a program of your own, write agents.toml"
            f" (agents.example.toml), and PROJECT_ROOT={project} and"
            f" AGOG_PIPELINE={_pipeline(sides.found)[0]} into .env. Nothing was written."
        )
    if not sides.found:
        why = "".join(f"\n  {note}" for note in sides.notes)
        raise RefusedInput(
            f"Nothing committed in {project} tells how it is built or tested: no scripts of a"
            " package.json, no pyproject.toml, go.mod, Cargo.toml, pom.xml, build.gradle,"
            " Makefile or page (.html). Commit one of them, or write agents.toml with your own"
            f" commands (agents.example.toml). Nothing was written.{why}"
        )
    chosen = min(programs, key=lambda each: (not each.is_ready, each.login is Login.UNKNOWN))
    permissions, reason = _permissions(chosen.kind, sides.found)
    pipeline, why = _pipeline(sides.found)
    return Proposal(
        project=project,
        pipeline=pipeline,
        pipeline_reason=why,
        kind=chosen.kind,
        kind_reason=_kind_reason(chosen, programs),
        permissions=permissions,
        permissions_reason=reason,
        programs=tuple(programs),
        sides=sides.found,
        notes=sides.notes,
        warnings=tuple(_warnings(chosen)),
        remotes=remotes,
    )


def _pipeline(sides: Sequence[SideFound]) -> tuple[str, str]:
    names = tuple(side.side for side in sides)
    if one := _PIPELINES.get(names):
        return one, f"the project has one side, a {names[0]}"
    return "standard", "the project has a backend and a frontend"


def _kind_reason(chosen: ProgramFound, programs: Sequence[ProgramFound]) -> str:
    others = [each for each in programs if each is not chosen]
    if not others:
        return f"{chosen.told}: the only agent's program on PATH"
    ready = [each for each in programs if each.is_ready]
    told = listed([f"{each.program} ({each.login})" for each in others])
    if ready == [chosen]:
        return f"{chosen.told}: the only one that is ready; {told} is on PATH, too"
    return f"{chosen.told}; {told} would do as well" if ready else f"{chosen.told}; also {told}"


def _permissions(kind: str, sides: Sequence[SideFound]) -> tuple[str | tuple[str, ...], str]:
    if kind in _WITH_SANDBOX:
        return "edit", "its sandbox lets commands run, without network and writing in the clone"
    programs = dict.fromkeys(program for side in sides for program in side.programs)
    return (*programs, *_READING), (
        "so that agents can build and test; whoever runs these can run anything as your user"
    )


def _warnings(chosen: ProgramFound) -> Iterator[str]:
    if chosen.flaw:
        yield f"{chosen.program}: {chosen.flaw}"
    elif chosen.login is Login.NONE:
        yield f"{chosen.program} is not logged in: log in before the first requirement."
    elif chosen.login is Login.UNKNOWN:
        yield f"{chosen.program} does not say whether it is logged in."


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in textwrap.wrap(printable(text), _LINE))


def _toml_permissions(permissions: str | tuple[str, ...]) -> str:
    listing = toml_value(permissions)
    return listing if isinstance(permissions, str) else f"{{ run = {listing} }}"


def toml_value(value: str | Sequence[str]) -> str:
    """A string, or a list of them; JSON's escapes are TOML's, but for one character."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"[{', '.join(map(toml_value, value))}]"
