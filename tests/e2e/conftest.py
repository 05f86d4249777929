"""The command line as users run it: a process beside a worker, on the session's servers."""

import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from adapters.local_stack import StackAddresses
from adapters.sdlc.migrate import upgrade
from adapters.sdlc.reader import create_reader
from pipeline.installation import Installation
from pipeline.team import TEAM
from tests.eventually import PATIENCE_SECONDS, wait_until
from tests.prefork import Program

ROOT = Path(__file__).parent.parent.parent
STARTER = f"python {ROOT / 'starter.py'}"
"""As it is to be typed elsewhere: the commands of the tests run in a directory of their own."""

Notice = Mapping[str, object]

RED = {"test_result": "FAIL", "owner": "backend", "failures": ["the login is open"]}
TEAM_OF_TESTS: Mapping[str, Notice] = {"vic": RED}
"""Neither vic nor todd is in the way of a standard pipeline: nobody asks for them."""


@dataclass(frozen=True)
class Said:
    """What a command has said."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """The one document of stdout."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Cli:
    """Runs commands in one environment."""

    environment: Mapping[str, str]
    directory: Path

    def __call__(self, *arguments: str, **changes: str) -> Said:
        """Run to the end."""
        with self.open(*arguments, **changes) as process:
            try:
                out, err = process.communicate(timeout=PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Said(process.wait(), out, err)

    def open(self, *arguments: str, **changes: str) -> Program:
        """Start a command."""
        argv = [str(ROOT / "starter.py"), *arguments]
        return Program(argv, {**self.environment, **changes}, self.directory)


def until(claim: Callable[[], bool], what: str) -> None:
    """Wait for the claim to hold."""
    wait_until(claim, what)


def heard(lines: Iterable[str], last: str) -> str:
    """Everything up to the line that says the last, or to the end."""
    told = ""
    for line in lines:
        told += line
        if last in line:
            break
    return told


def plan_of(*stages: tuple[str, str]) -> str:
    """A pipeline file of stages, each with its agent, one after another."""
    lines = ['name = "small"']
    before = ""
    for name, agent in stages:
        lines += ["[[groups]]", f'name = "{name}"', f"needs = [{before}]"]
        lines += ["[[stages]]", f'name = "{name}"', f'agent = "{agent}"', f'group = "{name}"']
        lines += ["minutes = 10", "deadline_minutes = 80000"]
        before = f'"{name}"'
    return "\n".join(lines)


def write_agents(path: Path, notices: Mapping[str, Notice], todd_minutes: int = 40_000) -> None:
    """A team without processes, all green but for `notices`; todd hardly comes to an end."""
    lines = ["[defaults]", 'kind = "simulated"', "[simulation]", "minute_seconds = 0.002"]
    for name in TEAM:
        lines.append(f"[agents.{name}]")
        if name == "todd":
            lines.append(f"minutes = {todd_minutes}")
        if notice := notices.get(name):
            fields = ", ".join(f"{key} = {json.dumps(value)}" for key, value in notice.items())
            lines.append(f"notice = {{ {fields} }}")
    for side in ("backend", "frontend"):
        lines += [f"[builds.{side}]", 'kind = "simulated"']
    path.write_text("\n".join(lines), encoding="utf-8")


def addresses_of(stack: StackAddresses) -> Mapping[str, str]:
    assert stack.nats_user
    assert stack.nats_password
    return {
        "TEMPORAL_ADDRESS": stack.temporal_address,
        "NATS_URL": stack.nats_url,
        "NATS_USER": stack.nats_user,
        "NATS_PASSWORD": stack.nats_password,
        "DATABASE_URL": stack.database_url,
    }


async def installation_at(stack: StackAddresses) -> Installation:
    """The installation of the commands beside those servers, which have met."""
    reader = create_reader(stack.database_url)
    try:
        installation = await reader.installation()
    finally:
        await reader.close()
    assert installation
    return installation


@pytest.fixture(scope="session")
def bare_cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """Commands that are told of no server."""
    directory = tmp_path_factory.mktemp("cli")
    agents = directory / "agents.toml"
    write_agents(agents, TEAM_OF_TESTS)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "AGOG_HOME": str(directory / "home"),
        "AGOG_HOST": "e2e",
        "AGOG_AGENTS_FILE": str(agents),
    }
    return Cli(environment, directory)


@pytest.fixture(scope="session")
def cli(bare_cli: Cli, stack: StackAddresses) -> Cli:
    """Commands beside the session's servers; no worker runs for them."""
    upgrade(stack.database_url)
    return Cli({**bare_cli.environment, **addresses_of(stack)}, bare_cli.directory)


class Host:
    """The worker beside the commands; it reads its agents file when it starts."""

    def __init__(self, cli: Cli, log: Path) -> None:
        self.cli = cli
        self._log = log
        self._process: Program | None = None

    def restart(
        self, notices: Mapping[str, Notice] = TEAM_OF_TESTS, todd_minutes: int = 40_000
    ) -> None:
        """Run with agents that answer like that."""
        self.stop()
        write_agents(Path(self.cli.environment["AGOG_AGENTS_FILE"]), notices, todd_minutes)
        with self._log.open("wb") as sink:
            argv = [str(ROOT / "worker.py")]
            self._process = process = Program(argv, self.cli.environment, Path.cwd(), sink)
        until(lambda: process.poll() is not None or "is ready" in self._log.read_text(), "a worker")
        assert process.poll() is None, self._log.read_text()

    def stop(self) -> None:
        """Stop politely."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it; its agents continue."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> None:
        if self._process:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_SECONDS)
            self._process = None


@pytest.fixture(scope="session")
def host(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """The worker for the requirements of `cli`."""
    host = Host(cli, tmp_path_factory.mktemp("worker") / "log")
    host.restart()
    yield host
    host.stop()
