"""Agents and builds as a test sees them: real processes that it holds, releases and counts."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.team import TEAM
from tests.fixtures_runs import is_running
from tests.held_agent import LOG

PROGRAM = Path(__file__).with_name("held_agent.py")
BUILDS = ("backend", "frontend")


@dataclass(frozen=True)
class Sign:
    """A line of the log: a process has started or ended."""

    what: str
    number: str
    name: str
    attempt: str
    """Of an agent; of a build the commit that it builds."""
    pid: int


@dataclass(frozen=True)
class Puppets:
    """The directory through which a test and its agents talk."""

    directory: Path

    def hold(self, *names: str) -> None:
        """Let agents or builds of that name start, but not end."""
        for name in names:
            self._held(name).touch()

    def release(self, *names: str) -> None:
        for name in names:
            self._held(name).unlink(missing_ok=True)

    def release_all(self) -> None:
        for file in self.directory.glob("*.held"):
            file.unlink()

    def task(
        self,
        name: str,
        *,
        files: Mapping[str, str] | None = None,
        documents: Mapping[str, str] | None = None,
        notice: Mapping[str, object] | None = None,
        seconds: float = 0.0,
        exit_code: int = 0,
        says: str = "",
    ) -> None:
        """What those who start from now on do: edit files, leave documents, take time, answer."""
        task = {
            "files": dict(files or {}),
            "documents": dict(documents or {}),
            "notice": dict(notice or {}),
            "seconds": seconds,
            "exit_code": exit_code,
            "says": says,
        }
        draft = self.directory / f"{name}.draft"
        draft.write_text(json.dumps(task))
        draft.replace(self.directory / f"{name}.json")

    def signs(self, what: str, name: str = "", number: str = "") -> list[Sign]:
        """The starts or ends of agents or builds of that name, oldest first."""
        return [
            sign
            for sign in self.log()
            if sign.what == what and name in ("", sign.name) and number in ("", sign.number)
        ]

    def starts(self, name: str, number: str = "") -> int:
        return len(self.signs("start", name, number))

    def ends(self, name: str, number: str = "") -> int:
        return len(self.signs("end", name, number))

    def living(self, *names: str) -> list[Sign]:
        """Agents whose process lives, builds not counted unless they are named."""
        wanted = names or tuple(TEAM)
        started = [sign for sign in self.log() if sign.what == "start" and sign.name in wanted]
        return [sign for sign in started if is_running(sign.pid)]

    def most_at_once(self) -> int:
        """How many agents were between start and end at the same time, at most."""
        at_once = most = 0
        for sign in self.log():
            if sign.name in TEAM:
                at_once += 1 if sign.what == "start" else -1
                most = max(most, at_once)
        return most

    def overlapped(self, one: str, other: str) -> bool:
        """Whether the first runs of two agents overlapped, by the order of the log."""
        order = [(sign.what, sign.name) for sign in self.log() if sign.name in (one, other)]
        return order.index(("end", one)) > order.index(("start", other)) and order.index(
            ("end", other)
        ) > order.index(("start", one))

    def agents_file(self) -> Path:
        """Write the file that makes the whole team, and both builds, puppets."""
        argv = [sys.executable, "-I", "-S", str(PROGRAM), str(self.directory)]
        lines = [f"[agents.{name}]\ncommand = {json.dumps([*argv, 'agent'])}" for name in TEAM]
        lines += [
            f'[builds.{name}]\ndirectory = "{name}"\ncommand = {json.dumps([*argv, name])}'
            for name in BUILDS
        ]
        path = self.directory / "agents.toml"
        path.write_text("\n".join(lines))
        return path

    def _held(self, name: str) -> Path:
        return self.directory / f"{name}.held"

    def log(self) -> list[Sign]:
        """Every start and end so far, in their order."""
        log = self.directory / LOG
        lines = log.read_text().splitlines() if log.exists() else []
        fields = (line.split() for line in lines)
        return [Sign(what, number, name, at, int(pid)) for what, number, name, at, pid in fields]
