"""`starter.py up` of a checkout of its own, with agents on strings, for tests that kill it."""

import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import psycopg

from adapters.files import write_atomically
from adapters.local_stack.child import recorded_process
from demo.project import make_project
from tests.e2e.conftest import Cli, plan_of, until
from tests.eventually import PATIENCE_SECONDS
from tests.fixtures_workspaces import GitProject
from tests.ports import own_port
from tests.prefork import Program
from tests.puppets import Puppets
from tests.stack_usage import keep_own_ports, processes_naming

RESEARCH = plan_of(("Research", "cynthia"), ("Documentation", "tim"))

SERVERS = ("temporal", "nats", "postgres")


class Up:
    """The stack of one state directory, and requirements that it takes through an outage."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
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
        self._processes: list[Program] = []

    @property
    def stack(self) -> Mapping[str, Any]:
        """What `stack.json` says."""
        file = self.home / "stack.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    @property
    def settings(self) -> Mapping[str, str]:
        """Where the servers answer."""
        return dict(self.stack.get("settings", {}))

    def take_port(self, name: str, port: int) -> None:
        """Let the next `up` wish for that port, as if it had been its own the last time."""
        stack = {**self.stack, "ports": {**self.stack["ports"], name: port}}
        write_atomically(self.home / "stack.json", json.dumps(stack), mode=0o600)

    def open(self, *options: str, **changes: str) -> Program:
        """Run `up` until its servers answer."""
        process = self.cli.open("up", *options, **changes)
        self._processes.append(process)

        def is_up() -> bool:
            return self.stack.get("pid") == process.pid and bool(self.settings)

        until(lambda: is_up() or process.poll() is not None, "a stack")
        assert process.poll() is None, process.communicate()
        return process

    def until_worker(self, nth: int = 1) -> psutil.Process:
        """Wait until the worker of `up` serves, the nth that ever did; its process."""
        until(lambda: self.log("worker").count(" is ready") >= nth, "a worker")
        return self.server("worker")

    def start(self, number: str) -> None:
        """Start a requirement and wait until its first agent runs, held."""
        self.puppets.hold(f"{number}.cynthia")
        said = self.cli("start", number, "--title", "Outage", "--pipeline", str(self.plan))
        assert said.code == 0, said.err
        until(lambda: self.puppets.starts("cynthia", number) == 1, "an agent")

    def deliver(self, number: str) -> None:
        """Let its agents continue, to the end."""
        self.puppets.release(f"{number}.cynthia")
        # Without a database it ends at once, with an error.
        until(lambda: self.cli("watch", number).code == 0, f"{number} is delivered")
        assert [self.puppets.starts(name, number) for name in ("cynthia", "tim")] == [1, 1]

    def server(self, name: str) -> psutil.Process:
        """The process of a server, or of the worker."""
        process = recorded_process(self.home, name)
        assert process
        return process

    def log(self, name: str) -> str:
        """What a server, or the worker, has logged."""
        log = self.home / "logs" / f"{name}.log"
        return log.read_text() if log.exists() else ""

    def incidents(self) -> list[tuple[Any, ...]]:
        """Kind, end and actions of every incident of the cluster, the oldest first."""
        address = self.settings["DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
        with psycopg.connect(address) as connection:
            return connection.execute(
                "SELECT kind, \"end\", actions FROM incidents WHERE place = '' ORDER BY began_at"
            ).fetchall()

    def close(self) -> None:
        """Stop it politely, then end whatever the test has left."""
        self.puppets.release_all()
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
            process.communicate(timeout=PATIENCE_SECONDS)
        worker = recorded_process(self.home, "worker")
        for left in filter(None, [worker, *processes_naming(str(self.directory))]):
            with suppress(psutil.NoSuchProcess):
                left.kill()


def is_over(process: psutil.Process) -> bool:
    """Whether it has ended, reaped or not."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
