"""The worker's image and container, by the commands of docs/containers.md.

Its servers are those of our embedded stack, which answer where the compose file expects them. All
else of the service is the file's own: environment, volumes, user, command, health check.
"""

import json
import logging
import os
import random
import re
import shutil
import socket
import socketserver
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from adapters.local_stack import StackAddresses
from demo.project import make_project
from tests.containers.engine import ROOT, Engine, base_image, missing, run
from tests.eventually import wait_until
from tests.ports import own_port
from tests.puppets import PROGRAM, Puppets

pytestmark = [
    pytest.mark.containers,
    pytest.mark.timeout(3000),  # the first one makes a Debian and builds the image
]

log = logging.getLogger(__name__)

SERVICE = "orchestrator"
USER = 1000
"""Whom the image is built for, unless `AGOG_UID` says otherwise."""
SECONDS = 2.0
"""How long agents work that may run side by side."""
MOST_BYTES = 300_000_000
"""Of the image with its base."""
TEAM = ("cynthia", "sylvia", "roy", "jen", "billy", "liz", "priya", "berry", "tim")
"""Whom the standard pipeline starts when no tester asks for another one."""


class Orchestrator:
    """The service in a checkout of its own, made ready by the guide's steps."""

    def __init__(self, engine: Engine, checkout: Path, puppets: Puppets) -> None:
        self.engine = engine
        self.puppets = puppets
        self._checkout = checkout

    def compose(self, *arguments: str) -> str:
        """What `docker-compose` prints."""
        files = ("-f", "docker-compose.yml", "-f", "docker-compose.override.yml")
        command = ("docker-compose", "--project-name", "agog", *files, *arguments)
        return run(*command, environment=self.engine.environment, directory=self._checkout)

    def up(self) -> None:
        """Start the container, made again if there is none, and wait for its health."""
        self.compose("up", "--detach", "--no-deps", SERVICE)
        self.until_healthy()

    def until_healthy(self) -> None:
        """Wait for the file's own health check."""

        def is_healthy() -> bool:
            assert self.inspect("{{.State.Running}}") == "true", self.compose("logs", SERVICE)
            return self.inspect("{{.State.Health.Status}}") == "healthy"

        wait_until(is_healthy, "a healthy container")

    def inspect(self, template: str) -> str:
        """What the engine says of the container."""
        return self.engine.docker("inspect", "--format", template, self.container)

    @property
    def container(self) -> str:
        """Its id."""
        return self.compose("ps", "--quiet", SERVICE)

    def inside(self, *command: str) -> str:
        """Run a command in the container."""
        return self.compose("exec", "-T", SERVICE, *command)

    def agog(self, *arguments: str) -> str:
        """Run a command of ours in the container; it must succeed."""
        return self.inside("python", "starter.py", *arguments)

    def status(self, number: str) -> Any:
        """What `status` says of a requirement."""
        return json.loads(self.agog("status", number, "--json"))

    def starts(self, number: str) -> dict[str, int]:
        """By agent, how often the database says that it was started."""
        return {
            stage["agent"]: stage["starts"]
            for stage in self.status(number)["stages"]
            if stage["starts"]
        }

    def switch(self, parallel: str) -> None:
        """The guide's rollback, word for word."""
        name = "ENABLE_PARALLEL_EXECUTION"
        run("sed", "-i", f"s/^{name}=.*/{name}={parallel}/", ".env", directory=self._checkout)
        self.compose("restart", SERVICE)
        self.until_healthy()


@pytest.fixture(scope="session")  # as the stack, and before it: nothing is started in vain
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if lacks := missing():
        pytest.fail(f"No container can run here. Missing: {', '.join(lacks)}.", pytrace=False)
    # Removed at once: pytest keeps its directories for a while, and each layer is a full copy.
    place = tmp_path_factory.mktemp("engine")
    with TemporaryDirectory(dir=place) as directory, Engine(Path(directory)).running() as engine:
        yield engine


@pytest.fixture(scope="module")
def orchestrator(
    engine: Engine, stack: StackAddresses, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orchestrator]:
    """Built and healthy."""
    directory = tmp_path_factory.mktemp("containers")
    # Beside whatever else has the usual ports: everything of 127.0.0.0/8 is this machine alone.
    loopback = f"127.77.{random.randrange(256)}.{random.randrange(1, 255)}"
    checkout, puppets = make_checkout(directory, stack, loopback)
    orchestrator = Orchestrator(engine, checkout, puppets)
    with ExitStack() as things:
        with base_image(engine, loopback) as base:
            began = time.monotonic()
            orchestrator.compose("build", SERVICE)
            log.info("Built in %.0f s", time.monotonic() - began)
        sizes = [engine.image_bytes(image) / 1e6 for image in (base, image_of())]
        log.info("Base %.0f MB, image %.0f MB, ours of that %.0f MB", *sizes, sizes[1] - sizes[0])
        things.enter_context(serving_at(loopback, stack))
        try:
            began = time.monotonic()
            orchestrator.up()
            log.info("Healthy %.0f s after its start", time.monotonic() - began)
            yield orchestrator
        finally:
            puppets.release_all()
            with suppress(AssertionError):
                sys.stdout.write(orchestrator.compose("logs", "--no-color", SERVICE))
            orchestrator.compose("down", "--volumes", "--timeout", "10")


def make_checkout(directory: Path, stack: StackAddresses, loopback: str) -> tuple[Path, Puppets]:
    """A copy of our files with `.env`, agents and a project, as somebody's who is not root."""
    checkout = directory / "checkout"
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", directory=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, checkout / name)
    puppets = Puppets(directory / "puppets")
    puppets.directory.mkdir()
    shutil.copy(PROGRAM, puppets.directory)
    agents = puppets.agents_file().read_text()
    command = f'"python", {json.dumps(str(PROGRAM))}, {json.dumps(str(puppets.directory))}'
    agents = re.sub(r'"[^"]+", "-I", "-S"', '"python"', agents)
    assert command in agents
    mounted = f'"python", "/puppets/{PROGRAM.name}", "/puppets"'
    (checkout / "agents.toml").write_text(agents.replace(command, mounted))
    project = make_project(directory / "project")
    password = urlsplit(stack.database_url).password
    settings = {
        "PROJECT_ROOT": project,
        "NATS_USER": stack.nats_user,
        "NATS_PASSWORD": stack.nats_password,
        "SDLC_DATABASE_PASSWORD": password,
        "TEMPORAL_DATABASE_PASSWORD": "unused",
    }
    text = (ROOT / ".env.example").read_text()
    for name, value in settings.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1, name
    # On the host's network a worker of somebody else may have the usual one.
    (checkout / ".env").write_text(f"{text}\nAGOG_HEALTH_PORT={own_port()}\n")
    (checkout / ".env").chmod(0o600)
    ours = {
        "build": {"network": "host"},
        "network_mode": "host",
        "extra_hosts": [f"{name}:{loopback}" for name in ("temporal", "nats", "database")],
        "volumes": [f"{puppets.directory}:/puppets"],
    }
    override = json.dumps({"services": {SERVICE: ours}})  # JSON is YAML
    (checkout / "docker-compose.override.yml").write_text(override)
    for root in (checkout / ".env", puppets.directory, project):
        for path in (root, *root.rglob("*")):
            os.chown(path, USER, USER)
    return checkout, puppets


def service() -> dict[str, Any]:
    """The compose file's own words."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return dict(compose["services"][SERVICE])


def image_of() -> str:
    return str(service()["image"])


# --- servers where the compose file expects them --------------------------------------------------


@contextmanager
def serving_at(loopback: str, stack: StackAddresses) -> Iterator[None]:
    """Pass connections to the service's addresses on to the stack's."""
    environment = service()["environment"]
    ways = (
        (f"x://{environment['TEMPORAL_ADDRESS']}", f"x://{stack.temporal_address}"),
        (environment["NATS_URL"], stack.nats_url),
        (re.sub(r"\$\{.*?\}", "x", environment["DATABASE_URL"]), stack.database_url),
    )
    with ExitStack() as servers:
        for expected, actual in ways:
            here, there = urlsplit(expected).port, urlsplit(actual).port
            assert here
            assert there
            server = servers.enter_context(Passage((loopback, here), Passing))
            server.there = ("127.0.0.1", there)
            thread = Thread(target=server.serve_forever)
            thread.start()
            servers.callback(thread.join)
            servers.callback(server.shutdown)
        yield


class Passage(socketserver.ThreadingTCPServer):
    """Connections to one address, passed on to another one."""

    allow_reuse_address = True
    daemon_threads = True
    there: tuple[str, int]


class Passing(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Passage)
        with socket.create_connection(self.server.there) as there:
            back = Thread(target=pass_on, args=(there, self.request), daemon=True)
            back.start()
            pass_on(self.request, there)
            back.join()


def pass_on(source: socket.socket, sink: socket.socket) -> None:
    """Until one of them closes."""
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


# --- claims ---------------------------------------------------------------------------------------


def test_image_holds_what_the_worker_needs_and_no_more(orchestrator: Orchestrator) -> None:
    engine = orchestrator.engine
    assert engine.image_bytes(image_of()) < MOST_BYTES
    found = orchestrator.inside("sh", "-c", "ls -A /app /opt/venv/lib/python3*/site-packages")
    assert {"worker.py", "pipeline", "temporalio"} <= set(found.split())
    assert {"tests", "bench", ".git", "pip", "setuptools", "pytest"}.isdisjoint(found.split())
    left = "ls -A /root /home/agog /tmp /var/lib/apt/lists /var/cache/apt 2>/dev/null"
    assert ".cache" not in orchestrator.inside("sh", "-c", f"{left}; true")


def test_no_bytecode_is_missing_and_none_is_of_what_nobody_imports(
    orchestrator: Orchestrator,
) -> None:
    told = orchestrator.inside("sh", "-c", "python -v -c 'import starter, worker' 2>&1")
    read = re.findall(r"^# code object from '?(\S+?)'?$", told, re.MULTILINE)
    ours = [path for path in read if path.startswith(("/app/", "/opt/venv/"))]
    assert len(ours) > 500, told[-4000:]
    assert [path for path in ours if not path.endswith(".pyc")] == []
    count = orchestrator.inside("sh", "-c", "find /app /opt/venv -name '*.pyc' | wc -l")
    assert int(count) == len(set(ours))


def test_worker_runs_as_an_ordinary_user_who_can_change_nothing_of_the_image(
    orchestrator: Orchestrator,
) -> None:
    inside = orchestrator.inside
    users = inside("sh", "-c", "stat -c %u /proc/[0-9]*").split()
    assert set(users) == {str(USER)}
    first = inside("sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline")
    assert first.strip() == "/sbin/docker-init -- python worker.py"
    assert re.search(r"^CapEff:\s+0+$", inside("cat", "/proc/1/status"), re.MULTILINE)
    writable = inside("sh", "-c", "find /app /opt/venv -writable ! -type l -print -quit")
    assert writable == ""


def test_requirement_is_delivered_in_parallel_by_agents_of_the_mounted_file(
    orchestrator: Orchestrator,
) -> None:
    puppets = orchestrator.puppets
    let_work(puppets, "REQ-1")
    orchestrator.agog("start", "REQ-1", "--title", "Greet in French", "--wait")
    status = orchestrator.status("REQ-1")
    assert (status["state"], status["mode"]) == ("DELIVERED", "parallel")
    assert orchestrator.starts("REQ-1") == dict.fromkeys(TEAM, 1)
    assert overlap(puppets, "REQ-1", "billy", "liz")
    delivered = (
        "git",
        "-C",
        "/project",
        "show",
        "main:backend/REQ-1.txt",
        "main:frontend/REQ-1.txt",
    )
    assert orchestrator.inside(*delivered).split() == ["roy", "jen"]


def test_rollback_of_the_guide_makes_a_running_requirement_sequential_and_repeats_no_agent(
    orchestrator: Orchestrator,
) -> None:
    puppets = orchestrator.puppets
    let_work(puppets, "REQ-2")
    puppets.hold("REQ-2.backend", "REQ-2.frontend")  # the builds: no agent is in flight
    orchestrator.agog("start", "REQ-2", "--title", "Greet in German")
    wait_until(lambda: puppets.starts("backend", "REQ-2") > 0, "a build")
    before = orchestrator.container
    assert overlap(puppets, "REQ-2", "roy", "jen")

    orchestrator.switch("false")
    try:
        puppets.release_all()
        orchestrator.agog("watch", "REQ-2")
        status = orchestrator.status("REQ-2")
        assert (status["state"], status["mode"]) == ("DELIVERED", "sequential")
        assert orchestrator.container == before
        assert orchestrator.starts("REQ-2") == dict.fromkeys(TEAM, 1)
        assert {name: puppets.starts(name, "REQ-2") for name in TEAM} == dict.fromkeys(TEAM, 1)
        assert not overlap(puppets, "REQ-2", "billy", "liz")
    finally:
        orchestrator.switch("true")


def test_killed_container_continues_in_a_new_one_and_repeats_only_whom_it_ended(
    orchestrator: Orchestrator,
) -> None:
    puppets = orchestrator.puppets
    let_work(puppets, "REQ-3")
    puppets.hold("REQ-3.roy", "REQ-3.jen")
    orchestrator.agog("start", "REQ-3", "--title", "Greet in Danish")
    wait_until(lambda: all(puppets.starts(name, "REQ-3") for name in ("roy", "jen")), "two agents")
    killed = orchestrator.container

    orchestrator.engine.docker("kill", "--signal=KILL", killed)
    orchestrator.compose("rm", "--force", SERVICE)
    orchestrator.up()
    assert orchestrator.container != killed
    wait_until(lambda: all(puppets.starts(n, "REQ-3") == 2 for n in ("roy", "jen")), "both again")
    puppets.release_all()
    orchestrator.agog("watch", "REQ-3")

    assert orchestrator.status("REQ-3")["state"] == "DELIVERED"
    expected = {name: 2 if name in ("roy", "jen") else 1 for name in TEAM}
    assert {name: puppets.starts(name, "REQ-3") for name in TEAM} == expected
    assert orchestrator.starts("REQ-3") == expected


def let_work(puppets: Puppets, number: str) -> None:
    """Implementers change a file; all who may run side by side take long enough to be seen so."""
    files = {"roy": f"backend/{number}.txt", "jen": f"frontend/{number}.txt"}
    for name in ("roy", "jen", "billy", "liz"):
        written = {files[name]: f"{name}\n"} if name in files else {}
        puppets.task(f"{number}.{name}", files=written, seconds=SECONDS)


def overlap(puppets: Puppets, number: str, one: str, other: str) -> bool:
    """Whether both agents of that requirement ran at one time."""
    signs = [s for s in puppets.log() if s.number == number and s.name in (one, other)]
    return [sign.what for sign in signs[:2]] == ["start", "start"]
