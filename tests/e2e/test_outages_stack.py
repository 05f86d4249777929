"""Servers of `up` that hang or die: nobody has to do anything, and the run is delivered."""

import json
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from adapters.local_stack.child import recorded_process
from demo.project import make_project
from tests.e2e.conftest import Cli, plan_of, until
from tests.fixtures_workspaces import GitProject
from tests.puppets import Puppets
from tests.stack_usage import keep_own_ports, own_port, processes_naming

RESEARCH = plan_of(("Research", "cynthia"), ("Documentation", "tim"))


SETTLED_SECONDS = 20.0
"""Sasha acts ten seconds after it at the earliest; one that has just started is given time."""

DELIVERED_SECONDS = 100
"""A `watch` without a database takes five seconds to say so."""

KINDS = {"nats": "nats_down", "postgres": "database_down"}
"""What Sasha calls it when that server is away."""


class Up:
    """`starter.py up` with agents on strings, and requirements that it takes through an outage."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        for name in ("puppets", "project"):
            (directory / name).mkdir()
        self.puppets = Puppets(directory / "puppets")
        self.project = GitProject(make_project(directory / "project"))
        self.plan = directory / "plan.toml"
        self.plan.write_text(RESEARCH)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(directory),
            "AGOG_HOME": str(self.home),
            "AGOG_HOST": "outages",
            "AGOG_HEALTH_PORT": str(own_port()),
            "PROJECT_ROOT": str(self.project.root),
            "AGOG_AGENTS_FILE": str(self.puppets.agents_file()),
        }
        keep_own_ports(self.home)
        self.cli = Cli(environment, directory)

    @property
    def settings(self) -> Mapping[str, str]:
        """Where the servers answer."""
        file = self.home / "stack.json"
        return dict(json.loads(file.read_text())["settings"]) if file.exists() else {}

    def start(self, number: str) -> None:
        """Start a requirement and wait until its first agent runs, held."""
        self.puppets.hold(f"{number}.cynthia")
        said = self.cli("start", number, "--title", "Outage", "--pipeline", str(self.plan))
        assert said.code == 0, said.err
        until(lambda: self.puppets.starts("cynthia", number) == 1, "an agent")

    def deliver(self, number: str) -> None:
        """Let its agents go on, to the end."""
        self.puppets.release(f"{number}.cynthia")
        deadline = time.monotonic() + DELIVERED_SECONDS
        while self.cli("watch", number).code:  # without a database it ends at once, with an error
            assert time.monotonic() < deadline, f"{number} was never delivered"
        assert [self.puppets.starts(name, number) for name in ("cynthia", "tim")] == [1, 1]

    def server(self, name: str) -> psutil.Process:
        """The server's process."""
        process = recorded_process(self.home, name)
        assert process
        return process

    def incidents(self) -> list[tuple[Any, ...]]:
        """Kind, end and actions of every incident of the house, the oldest first."""
        address = self.settings["DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(address) as connection:
            return connection.execute(
                "SELECT kind, \"end\", actions FROM incidents WHERE place = '' ORDER BY began_at"
            ).fetchall()


def is_settled(server: psutil.Process) -> bool:
    return bool(time.time() - server.create_time() > SETTLED_SECONDS)


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    directory = tmp_path_factory.mktemp("up")
    up = Up(directory)
    with up.cli.open("up") as process:
        try:
            until(lambda: bool(up.settings) or process.poll() is not None, "a stack")
            assert process.poll() is None, process.communicate()
            until(lambda: up.cli("doctor").code == 0, "a worker")
            yield up
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
    assert processes_naming(str(directory)) == []


def test_hung_servers_are_ended_by_sasha_and_the_run_goes_on(up: Up) -> None:
    before = len(up.incidents())
    up.start("REQ-HUNG")
    until(lambda: all(map(is_settled, map(up.server, KINDS))), "servers that are not just starting")
    hung = [up.server(name) for name in KINDS]
    for server in hung:
        for each in [server, *server.children(recursive=True)]:
            each.suspend()
    up.deliver("REQ-HUNG")

    def repaired() -> list[tuple[Any, ...]]:
        return [each for each in up.incidents()[before:] if each[1] == "repaired"]

    until(lambda: len(repaired()) >= len(KINDS), "incidents that were repaired")
    assert sorted(kind for kind, _, _ in repaired()) == sorted(KINDS.values())
    assert all(actions[-1].endswith("was started again by `up`.") for _, _, actions in repaired())
    assert not any(server.is_running() for server in hung)


def test_killed_temporal_is_started_again_and_the_run_goes_on(up: Up) -> None:
    up.start("REQ-TEMPORAL")
    up.server("temporal").kill()
    up.deliver("REQ-TEMPORAL")


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_killed_server_is_started_again_and_the_run_goes_on(up: Up, name: str, kind: str) -> None:
    number = f"REQ-KILLED-{name}"
    up.start(number)
    up.server(name).kill()
    up.deliver(number)
    assert {end for seen, end, _ in up.incidents() if seen == kind} <= {"passed", "repaired"}
