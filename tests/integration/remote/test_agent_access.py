"""A real server with the shipped permissions: an agent host does its work, and nothing else."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout

from adapters.builds.project_builds import ProjectBuilds
from adapters.git import GitWorkspaces
from adapters.nats.connection import NatsLogin, open_connection
from adapters.nats.events import NatsEventPublisher, connect
from adapters.remote.agent_host import DELIVERED, AgentHost
from adapters.remote.messages import Deliverable
from adapters.remote.order import RemoteRun
from adapters.runs import records
from adapters.runs.program_starts import program_start
from adapters.runs.resources import RunResources
from pipeline.agent_access import password_variable, server_accounts
from pipeline.agent_programs import ProgramAgent
from pipeline.agents_file import Agent, AgentsFile, BuildCommand, CommandAgent
from pipeline.answers import read_run
from pipeline.errors import AgentsFileRefused
from pipeline.events import STREAMS
from pipeline.model import Ending, FailureKind, RunOrder, StageState
from tests.eventually import PATIENCE_SECONDS, eventually, eventually_async, wait_until
from tests.fixtures_runs import PORTS, Bench, attach, follow
from tests.fixtures_workspaces import GitProject, stage_request
from tests.ports import own_port
from tests.unit.test_answers import a_request

OURS, ROY, JEN = "agog", "roy", "jen"
NOTICE = {"agent": "roy", "req_number": "REQ-1", "status": "COMPLETE", "summary": "Done."}
SCRIPT = f"""
cat >"$AGOG_RUN_DIR/told"
echo start >>"$AGOG_RUN_DIR/starts"
test ! -e readme.md || test -e dist/it || exit 1
echo new >new.txt; echo changed >>shared.txt; mkdir -p node_modules; echo x >node_modules/x
git add --all; git commit --quiet -m 'Mine.'; git branch aside; echo later >>new.txt
echo 'Mind the unit.' >"$AGOG_OUTBOX/notes.md"
while test -e "$AGOG_RUN_DIR/../../../../held"; do sleep 0.02; done
printf '```json\\n%s\\n```\\n' '{json.dumps(NOTICE)}'
"""


@dataclass
class Server:
    """A NATS server with our accounts, and its logins."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = shutil.which("nats-server", path=str(Path(sys.executable).parent))
        assert program
        (self.directory / "accounts.conf").write_text(server_accounts([ROY, JEN]))
        configuration = self.directory / "nats.conf"
        configuration.write_text(
            f'listen: "127.0.0.1:{self.port}"\n'
            f'jetstream {{ store_dir: "{self.directory}/jetstream" }}\n'
            'include "accounts.conf"\n'
        )
        passwords = {password_variable(name): f"of-{name}" for name in (ROY, JEN)}
        environment = {"NATS_USER": OURS, "NATS_PASSWORD": f"of-{OURS}", **passwords}
        with (self.directory / "log").open("ab") as log:
            command = [program, "--config", str(configuration)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        wait_until(self._accepts, f"NATS on {self.port} (log: {self.directory / 'log'})")

    def kill(self) -> None:
        assert self.process
        self.process.kill()
        self.process.wait(PATIENCE_SECONDS)

    async def client(self, user: str) -> Client:
        return await open_connection(self.url, user, f"of-{user}")

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    directory = tmp_path / "server"
    directory.mkdir()
    server = Server(directory, own_port())
    server.start()
    yield server
    server.kill()


@pytest.fixture
async def publisher(server: Server) -> AsyncIterator[NatsEventPublisher]:
    publisher = await connect(server.url, OURS, f"of-{OURS}")
    await publisher.ensure_streams()
    yield publisher
    await publisher.close()


class Far:
    """An agent host in this process; stopped, its agents continue."""

    def __init__(self, server: Server, home: Path) -> None:
        home.mkdir()
        self.server = server
        self.bench = Bench(home)
        self.bench.shell(SCRIPT)
        self._serving: asyncio.Task[None] | None = None
        self._client: Client | None = None

    async def start(self) -> None:
        self._client = await self.server.client(ROY)
        home, environment = self.bench.home, self.bench.environment
        deps = BuildCommand(".", ("true",), ("sh", "-c", "mkdir dist; echo made >dist/it"))
        builds = {"backend": deps}
        file = AgentsFile("agents.toml", home, self.bench.agents, builds, 0.0)
        made = ProjectBuilds(lambda: file, home, environment, RunResources(home, PORTS))
        runs = self.bench.host()
        host = AgentHost(home, "far", self._client, runs, made, lambda: file)
        self._serving = asyncio.create_task(host.serve([ROY]))

    async def stop(self) -> None:
        if self._serving and self._client:
            self._serving.cancel()
            with suppress(asyncio.CancelledError):
                await self._serving
            await self._client.close()

    @property
    def hold(self) -> Path:
        return self.bench.home / "held"

    def file(self, name: str) -> Path | None:
        """A file in the directory of its only run."""
        return next(self.bench.home.glob(f"runs/*/*/*/{name}"), None)


@pytest.fixture
async def far(server: Server, tmp_path: Path) -> AsyncIterator[Far]:
    far = Far(server, tmp_path / "far")
    yield far
    await far.stop()


def ordering(runs: Bench, server: Server, user: str = OURS) -> Bench:
    """Runs of the orchestrator's host, whose roy works elsewhere."""
    runs.agents[ROY] = ProgramAgent("nats", sys.executable, "nats", is_remote=True)
    login: Mapping[str, str] = {
        **{"AGOG_HOME": str(runs.home), "NATS_URL": server.url},
        **{"NATS_USER": user, "NATS_PASSWORD": f"of-{user}"},
    }
    runs.environment = {**runs.environment, **login}
    return runs


@pytest.mark.usefixtures("publisher")
async def test_work_goes_to_an_agent_host_and_comes_back_as_if_it_was_done_here(
    runs: Bench, server: Server, far: Far, git_project: GitProject
) -> None:
    workspaces = GitWorkspaces(git_project.root, runs.home)
    head, _ = await workspaces.open("REQ-1")
    request = stage_request(head)
    worktree = await workspaces.prepare(request)
    order = ordering(runs, server).order(
        worktree=worktree, head=head, prompt=f"Work in {worktree}. Fence it."
    )
    inbox = runs.directory(order).inbox
    inbox.mkdir(parents=True)
    inbox.joinpath("research.md").write_text("What is known.\n")
    far.hold.touch()
    running = asyncio.create_task(attach(runs.host(), order))
    await far.start()
    await eventually(lambda: far.file("starts") is not None, "roy works")
    await far.stop()
    await far.start()
    far.hold.unlink()

    result = await running

    assert result.report
    assert (result.report.ending, result.exit_code) == (Ending.SUCCESS, 0)
    assert read_run(a_request(), result).state is StageState.COMPLETED
    merge = await workspaces.integrate(request, "Done.")
    assert (merge.changed, merge.conflicts, merge.refusal) == (True, (), "")
    store = GitProject(workspaces._store.path)
    assert store.text(merge.head.commit, "new.txt") == "new\nlater"
    assert store.text(merge.head.commit, "shared.txt") == "one\nchanged"
    assert store.files(merge.head.commit) == [".gitignore", "new.txt", "readme.md", "shared.txt"]
    assert "Mine." in store.git("log", "--format=%s %an", merge.head.commit)
    assert runs.directory(order).outbox.joinpath("notes.md").read_text() == "Mind the unit.\n"
    told, starts = far.file("told"), far.file("starts")
    assert told
    assert starts
    assert starts.read_text() == "start\n"
    assert str(far.bench.home) in told.read_text()
    assert worktree not in told.read_text()
    handed = far.file("inbox/research.md")
    assert handed
    assert handed.read_text() == "What is known.\n"
    await eventually(lambda: any(far.bench.home.glob(f"{DELIVERED}/*")), "it is delivered")


@pytest.mark.usefixtures("publisher")
async def test_order_and_server_may_be_killed_and_the_work_is_done_once(
    runs: Bench, server: Server, far: Far
) -> None:
    order, host = ordering(runs, server).order(), runs.host()
    far.hold.touch()
    running = asyncio.create_task(follow(host, order))
    await far.start()
    await eventually(lambda: far.file("starts") is not None, "roy works")

    server.kill()
    server.start()
    part = runs.directory(order)
    identity = part.identity()
    for name in ("supervisor", "agent"):
        os.kill(identity[name], signal.SIGKILL)
    await eventually(lambda: part.following.has("started"), "it goes on in another part")
    far.hold.unlink()
    result = await running

    assert result.report
    assert (result.report.ending, result.starts, result.resumes) == (Ending.SUCCESS, 1, 1)
    starts = far.file("starts")
    assert starts
    assert starts.read_text() == "start\n"


@pytest.mark.usefixtures("publisher")
async def test_a_run_that_is_extended_and_cancelled_is_so_at_its_agent_host(
    runs: Bench, server: Server, far: Far
) -> None:
    order, host = ordering(runs, server).order(), runs.host()
    far.bench.limit = 1  # whoever has no slot left hears all the same
    far.hold.touch()
    running = asyncio.create_task(attach(host, order))
    await far.start()
    await eventually(lambda: far.file("starts") is not None, "roy works")

    await host.extend(order.run_id, timedelta(hours=5))
    (run,) = far.bench.all_runs()
    await eventually(lambda: run.file("deadline").read_text() == "18000.0", "it has more time")
    await host.end(order.run_id)
    await running

    await eventually(lambda: run.has("exit.json"), "it has ended there")
    assert json.loads(run.file("exit.json").read_text())["end"] == "cancelled"


async def test_a_run_that_was_cancelled_before_it_was_taken_is_never_started(
    runs: Bench, server: Server, far: Far, publisher: NatsEventPublisher
) -> None:
    order, host = ordering(runs, server).order(), runs.host()
    running = asyncio.create_task(attach(host, order))

    async def is_sent() -> bool:
        info = await publisher._jetstream.stream_info(
            "agog_agent_work", subjects_filter="agog.agent.work.roy"
        )
        return bool(info.state.subjects)

    await eventually_async(is_sent, "its item is stored")
    await host.end(order.run_id)
    await running

    await far.start()
    await eventually(lambda: any(far.bench.home.glob(f"{DELIVERED}/*")), "it was looked at")

    assert far.bench.all_runs() == []


@pytest.mark.usefixtures("publisher")
async def test_what_cannot_be_handed_over_asks_a_human_in_its_own_words(
    runs: Bench, server: Server, far: Far, git_project: GitProject
) -> None:
    workspaces = GitWorkspaces(git_project.root, runs.home)
    head, _ = await workspaces.open("REQ-1")
    worktree = await workspaces.prepare(stage_request(head))
    await far.start()
    far.bench.agents.clear()
    host = ordering(runs, server).host()
    unknown = await attach(host, runs.order(stage="Unknown There"))
    (workspaces._store.path / "shallow").touch()
    shallow = await attach(host, runs.order(worktree=worktree, head=head))

    for result, words in ((unknown, "agents.roy: missing"), (shallow, "--unshallow")):
        assert result.report
        assert result.report.ending is Ending.HANDOVER
        assert words in result.report.detail
        failure = read_run(a_request(), result).failure
        assert failure
        assert failure.kind is FailureKind.REFUSED


def remote_run(
    runs: Bench, server: Server, order: RunOrder, patience: float
) -> tuple[RemoteRun, list[dict[str, Any]]]:
    """The program that follows a run, in this process, and what it says."""
    run = runs.directory(order)
    run.create()
    agent = runs.agents[ROY]
    assert isinstance(agent, ProgramAgent)
    made = program_start(agent, order, run, runs.environment)
    run.write_order(made.record)
    run.file(records.PROMPT).write_text(made.prompt)
    told: list[dict[str, Any]] = []
    login = NatsLogin(server.url, OURS, f"of-{OURS}")
    return RemoteRun(runs.home, run, login, told.append, patience), told


@pytest.mark.usefixtures("publisher")
async def test_an_order_that_was_suspended_too_long_learns_that_nobody_starts_it(
    runs: Bench, server: Server, far: Far
) -> None:
    now = replace(ordering(runs, server).order(), deadline=timedelta(), grace=timedelta())
    remote, told = remote_run(runs, server, now, PATIENCE_SECONDS)
    following = asyncio.create_task(remote.follow())
    await eventually(lambda: len(told) > 0, "its item is sent")
    await far.start()

    assert await following == 1

    assert [event["type"] for event in told] == ["sent", "claimed", "unserved"]
    assert "agent host far" in told[-1]["detail"]
    assert far.bench.all_runs() == []


@pytest.mark.usefixtures("publisher")
async def test_work_that_no_agent_host_takes_is_withdrawn_and_never_started(
    runs: Bench, server: Server, far: Far
) -> None:
    remote, told = remote_run(runs, server, ordering(runs, server).order(), 0.5)

    assert await remote.follow() == 1

    assert [event["type"] for event in told] == ["sent", "claimed", "unserved"]
    await far.start()
    await eventually(lambda: any(far.bench.home.glob(f"{DELIVERED}/*")), "it was looked at")
    assert far.bench.all_runs() == []


@pytest.mark.slow  # waits twice until an item is offered again
async def test_two_agent_hosts_start_it_once(
    runs: Bench, server: Server, far: Far, publisher: NatsEventPublisher, tmp_path: Path
) -> None:
    other = Far(server, tmp_path / "other")
    order = ordering(runs, server).order()
    far.hold.touch()
    (other.bench.home / "held").touch()
    running = asyncio.create_task(attach(runs.host(), order))
    await far.start()
    await eventually(lambda: far.file("starts") is not None, "roy works")
    await far.stop()
    await other.start()
    jetstream = publisher._jetstream

    async def is_offered_again() -> bool:
        info = await jetstream.consumer_info("agog_agent_work", ROY)
        return bool(info.num_redelivered)

    await eventually_async(is_offered_again, "it is offered to the other one")
    await far.start()
    far.hold.unlink()
    result = await running
    await other.stop()

    assert result.exit_code == 0
    assert other.file("starts") is None


FORBIDDEN = (
    "agog.agent.deliverables.jen.REQ-1",
    "agog.agent.deliverables.jen.claims.x",
    "agog.agent.work.roy",
    "agog.agent.work.roy.files.x.0",
    "agog.deliverables.roy.backend.REQ-1",
    "agog.orchestration.events.stage.completed",
    "agog.escalations.REQ-1",
    "agog.workflow.timeout.extend",
    "$JS.API.STREAM.DELETE.agog_agent_work",
    "$JS.API.STREAM.PURGE.agog_agent_deliverables",
    "$JS.API.STREAM.MSG.DELETE.agog_agent_deliverables",
    "$JS.API.CONSUMER.DURABLE.CREATE.agog_agent_work.mine",
    "$JS.API.CONSUMER.CREATE.agog_agent_deliverables",
    "$JS.API.CONSUMER.MSG.NEXT.agog_agent_work.jen",
    "$JS.ACK.agog_agent_work.jen.1.1.1.1.0",
    "$JS.API.DIRECT.GET.agog_agent_work.agog.agent.work.jen.files.x.0",
)


async def test_an_agent_publishes_its_own_deliverables_and_nothing_else(
    server: Server, publisher: NatsEventPublisher
) -> None:
    ours = publisher._client
    jetstream = publisher._jetstream
    await ours.publish("agog.agent.work.jen.files.x.0", b"jen's")
    heard: list[str] = []

    async def hear(message: object) -> None:
        heard.append(getattr(message, "subject", ""))

    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error).lower())

    roy = Client()
    await roy.connect(server.url, user=ROY, password=f"of-{ROY}", error_cb=note)
    try:
        await roy.subscribe("agog.>", cb=hear)
        mine = Deliverable(
            run_id="r", agent=ROY, req_number="REQ-1", timestamp=datetime.now(UTC)
        ).encoded()
        await roy.jetstream(timeout=5).publish("agog.agent.deliverables.roy.REQ-1", mine)
        before = {s.name: (await jetstream.stream_info(s.name)).state for s in STREAMS}
        for subject in FORBIDDEN:
            await roy.publish(subject, b"{}")
        await roy.flush()
        await eventually(lambda: len(refused) > len(FORBIDDEN), "every one is refused")

        # What it may ask for can be answered to any subject: none of them is one of ours.
        claim = "agog.agent.deliverables.roy.claims.x"
        await roy.jetstream(timeout=5).publish(claim, b"forged")
        ask = f"$JS.API.DIRECT.GET.agog_agent_deliverables.{claim}"
        for stolen in ("agog.deliverables.jen.frontend.REQ-1", "agog.escalations.REQ-1"):
            await roy.publish(ask, b"", reply=stolen)
            await roy.publish("agog.agent.deliverables.roy.REQ-1", mine, reply=stolen)
        # Nor does it read more by what it sends along.
        file = "$JS.API.DIRECT.GET.agog_agent_work.agog.agent.work.roy.files.x.0"
        for body in (b'{"seq": 1}', b'{"last_by_subj": "agog.agent.work.jen.files.x.0"}'):
            with suppress(NatsTimeout, NatsError):
                assert (await roy.request(file, body, timeout=2)).data != b"jen's"
        await roy.flush()
    finally:
        await roy.close()

    after = {s.name: (await jetstream.stream_info(s.name)).state for s in STREAMS}
    grown = {name: after[name].messages - before[name].messages for name in before}
    assert grown == {**dict.fromkeys(before, 0), "agog_agent_deliverables": 3}
    assert heard == []
    for subject in (*FORBIDDEN, "agog.>"):
        assert any(f'"{subject.lower()}"' in each for each in refused), (subject, refused)


async def test_a_stranger_has_no_login(server: Server) -> None:
    with pytest.raises(Exception, match="NATS"):
        await open_connection(server.url, "todd", "guessed")


@pytest.mark.parametrize(
    ("agents", "why"),
    [
        ({}, "agents.roy: must say how it runs on this agent host"),
        ({ROY: ProgramAgent("nats", "x", "x", is_remote=True)}, "by another kind than nats"),
        ({ROY: CommandAgent(("x",), instructions="Hurry.")}, "agents.roy.instructions: is told by"),
    ],
)
async def test_an_agents_file_that_cannot_serve_is_refused(
    server: Server, tmp_path: Path, agents: dict[str, Agent], why: str
) -> None:
    bench = Bench(tmp_path, agents)
    file = AgentsFile("agents.toml", tmp_path, agents, {}, 0.0)
    made = ProjectBuilds(lambda: file, tmp_path, {}, RunResources(tmp_path, PORTS))
    client = await server.client(ROY)
    host = AgentHost(tmp_path, "far", client, bench.host(), made, lambda: file)
    await client.close()

    with pytest.raises(AgentsFileRefused, match=why):
        host.check([ROY])
