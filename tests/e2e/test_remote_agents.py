"""A stage that is served by an agent host on another machine: here, another state directory."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from adapters.processes import end_processes
from adapters.remote.messages import Deliverable
from adapters.runs.directory import RUNS, RunDirectory
from adapters.runs.kinds import leftovers
from pipeline.model import RequirementState
from pipeline.remote_work import answer_subject
from tests.eventually import eventually, eventually_async
from tests.orchestra import Orchestra
from tests.orchestra_plans import BACKEND, PAIR
from tests.worker_process import WorkerProcess


class AgentHost:
    """An agent host for roy, with agents on the same strings."""

    def __init__(self, orchestra: Orchestra, directory: Path) -> None:
        directory.mkdir()
        self.home = directory / "home"
        environment = {
            **{name: orchestra.environment[name] for name in ("PATH", "NATS_URL", "NATS_USER")},
            "NATS_PASSWORD": orchestra.environment["NATS_PASSWORD"],
            "HOME": str(directory),
            "AGOG_HOME": str(self.home),
            "AGOG_HOST": "far-away",
            "AGOG_AGENTS_FILE": orchestra.environment["AGOG_AGENTS_FILE"],
            "AGOG_SERVED_AGENTS": "roy",
        }
        self.process = WorkerProcess(environment, directory, ("--role", "agent-host"))

    def runs(self) -> list[RunDirectory]:
        return [RunDirectory(path, "") for path in self.home.glob(f"{RUNS}/*/*/*")]

    def close(self) -> None:
        self.process.close()
        for run in self.runs():
            end_processes(lambda run=run: leftovers(run))  # type: ignore[misc] # bound per run


@pytest.fixture
async def agent_host(orchestra: Orchestra, tmp_path: Path) -> AsyncIterator[AgentHost]:
    host = AgentHost(orchestra, tmp_path / "far away")
    try:
        yield host
    finally:
        host.close()


def with_remote_roy(orchestra: Orchestra, place: Path) -> Path:
    """The agents file of the orchestrator's host."""
    file = place / "remote.toml"
    usual = Path(orchestra.environment["AGOG_AGENTS_FILE"]).read_text()
    file.write_text(usual.replace("[agents.roy]\n", '[agents.roy]\nkind = "nats"\n#', 1))
    return file


async def test_agent_host_that_is_killed_starts_its_agent_once_and_delivers(
    orchestra: Orchestra, agent_host: AgentHost, tmp_path: Path
) -> None:
    file = with_remote_roy(orchestra, tmp_path)
    puppets = orchestra.puppets
    puppets.task("roy", files={"backend/new.txt": "new\n"}, documents={"notes.md": "Mind it.\n"})
    puppets.hold("roy")
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(file))
    await orchestra.start(PAIR)
    await agent_host.process.start()
    await eventually(lambda: puppets.starts("roy") == 1, "roy works far away")

    agent_host.process.kill()
    await agent_host.process.start()
    orchestra.worker.kill()
    await orchestra.worker.start(AGOG_AGENTS_FILE=str(file))
    puppets.release("roy")
    await orchestra.until_state(RequirementState.DELIVERED)

    assert (puppets.starts("roy"), puppets.starts("jen")) == (1, 1)
    stage = await orchestra.stage(BACKEND)
    assert (stage.attempt, stage.starts) == (1, 1)
    assert orchestra.project.text("main", "backend/new.txt") == "new"
    run = orchestra.run("backend-implementation-1")
    assert run.outbox.joinpath("notes.md").read_text() == "Mind it.\n"
    (place,) = agent_host.runs()
    far = RunDirectory.at(place.records_path)
    assert far
    prompt = far.file("prompt").read_text()
    assert str(agent_host.home) in prompt
    assert str(orchestra.home) not in prompt
    await eventually(lambda: not list(agent_host.home.glob("clones/*/*")), "its clone is gone")
    await send_again(orchestra, far.run_id)
    assert await told_of(orchestra, 2) == [("received", None), ("refused", "repeated")]


async def send_again(orchestra: Orchestra, run_id: str) -> None:
    """What an agent host sends that was killed before it knew that its deliverable is stored."""
    number = orchestra.number
    again = Deliverable(run_id=run_id, agent="roy", req_number=number).encoded()
    client = orchestra._publisher._client
    await client.jetstream().publish(answer_subject("roy", number), again)


async def told_of(orchestra: Orchestra, number: int) -> list[tuple[str, object]]:
    """What `events` shows of deliverables, once so many are told."""
    told: list[tuple[str, object]] = []

    async def are_told() -> bool:
        told[:] = [
            (each["eventType"].rpartition(".")[2], each.get("reason"))
            for each in await orchestra.events()
            if each["eventType"].startswith("deliverable.")
        ]
        return len(told) >= number

    await eventually_async(are_told, "its deliverables are told")
    return told
