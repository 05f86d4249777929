"""Servers behind a configured command: Sasha runs it, at most three times, then asks a human."""

import asyncio
import json
import sys
from pathlib import Path

import pytest

from adapters.sdlc.views import RequirementView
from adapters.temporal.workflows import workflow_status
from pipeline.model import IncidentEnd, RequirementState, RetryRequest
from pipeline.plan_rules import DELIVER
from tests.e2e.conftest import Cli
from tests.e2e.outages import DATABASE, NATS, Outages
from tests.eventually import eventually, eventually_async
from tests.fixtures_sdlc import NatsServer, PostgresServer
from tests.orchestra_plans import SOLO
from workflows.requirement import RequirementWorkflow

SETTINGS = {NATS: "AGOG_RESTART_NATS", DATABASE: "AGOG_RESTART_DATABASE"}
NUMBERS = {NATS: "REQ-INFRA-nats-1", DATABASE: "REQ-INFRA-database-1"}
QUESTION = "May I downgrade this error?"


class Operator:
    """The command of a test: it counts its runs, and asks the test to start the server or not."""

    def __init__(self, directory: Path) -> None:
        self._runs, self._script = directory / "restarts", directory / "restart.py"
        self._script.write_text(
            "import sys, pathlib, time\n"
            "asked = pathlib.Path(sys.argv[1])\n"
            "with asked.open('a') as runs:\n"
            "    runs.write('run\\n')\n"
            "deadline = time.monotonic() + 30\n"
            "done = asked.with_name('done')\n"
            "while sys.argv[2] == 'helps' and not done.exists():\n"
            "    assert time.monotonic() < deadline\n"
            "    time.sleep(0.05)\n"
        )

    def command(self, does: str) -> str:
        """A command line that `helps`, or does not."""
        return f"{sys.executable} -I {self._script} {self._runs} {does}"

    @property
    def runs(self) -> int:
        """How often the command was run."""
        return len(self._runs.read_text().splitlines()) if self._runs.exists() else 0

    async def help(self, server: NatsServer | PostgresServer) -> None:
        """Start the server when the command is run, as `systemctl` leaves that to another."""
        await eventually(lambda: self.runs == 1, "the command")
        await asyncio.to_thread(server.start)
        self._runs.with_name("done").touch()


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


async def hold_an_agent(outages: Outages, **settings: str) -> None:
    outages.puppets.hold("roy")
    await outages.worker.start(**settings)
    await outages.start("HELD", SOLO)
    await eventually(lambda: outages.puppets.starts("roy") == 1, "an agent")


@pytest.mark.parametrize("name", [NATS, DATABASE])
async def test_configured_command_brings_it_back(
    outages: Outages, operator: Operator, name: str
) -> None:
    await hold_an_agent(outages, **{SETTINGS[name]: operator.command("helps")})
    await outages.take_away([name])
    outages.puppets.release("roy")
    await operator.help(outages.servers[name])
    await outages.all_delivered()

    (incident,) = await outages.incidents([name])
    assert incident.end is IncidentEnd.REPAIRED
    assert incident.actions == (f"{name} was restarted by {SETTINGS[name]}.",)
    assert operator.runs == 1
    assert outages.puppets.starts("roy") == 1
    await outages.check_events()


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", [NATS, DATABASE])
async def test_command_that_does_not_help_asks_a_human(
    outages: Outages, operator: Operator, name: str
) -> None:
    await hold_an_agent(outages, **{SETTINGS[name]: operator.command("vain")})
    await outages.take_away([name])
    outages.puppets.release("roy")
    urgent = outages.orchestra.temporal.get_workflow_handle_for(
        RequirementWorkflow.run, NUMBERS[name]
    )
    await until_started(outages, NUMBERS[name])
    assert operator.runs == 3
    if name == NATS:
        view = await until_asked(outages, NUMBERS[name])
        assert (view.priority, view.waiting_for) == ("P0", "human")
        assert view.escalation

    await outages.bring_back([name])
    if name == NATS:
        request = RetryRequest(DELIVER, "tester")
        await urgent.execute_update(RequirementWorkflow.retry, request)
    async with asyncio.timeout(60):
        assert (await urgent.result()).state is RequirementState.DELIVERED
    await outages.all_delivered()

    view = await outages.orchestra.view(NUMBERS[name])
    assert (view.state, view.priority) == (RequirementState.DELIVERED, "P0")
    (incident,) = await outages.incidents([name])
    assert (incident.end, incident.requirement) == (IncidentEnd.ESCALATED, NUMBERS[name])
    assert len(incident.actions) == operator.runs == 3
    assert outages.puppets.starts("roy") == 1
    await outages.check_events()


async def until_started(outages: Outages, number: str) -> None:
    """Wait until three attempts have failed."""

    async with asyncio.timeout(200):
        while not await workflow_status(outages.orchestra.temporal, number):  # noqa: ASYNC110 -- Sasha sets no Event
            await asyncio.sleep(1)


async def until_asked(outages: Outages, number: str) -> RequirementView:
    return await outages.orchestra.until_state(RequirementState.BLOCKED, number)


async def test_question_is_answered_while_the_database_is_away_and_every_slot_taken(
    outages: Outages, tmp_path: Path
) -> None:
    await hold_an_agent(outages, MAX_PARALLEL_STAGES="1")
    await outages.take_away([DATABASE])

    said = await ask(outages, tmp_path, QUESTION, "--requirement", outages.number("HELD"))

    assert said["answer"] == "no"
    assert said["source"] == "rules; the SDLC database cannot be reached"
    await outages.bring_back([DATABASE])
    known = "rules and the SDLC database"
    extension = "May I extend my deadline?"

    async def is_known() -> bool:
        arguments = ("--agent", "roy", "--requirement", outages.number("HELD"))
        return (await ask(outages, tmp_path, extension, *arguments))["source"] == known

    await eventually_async(is_known, "an answer that knows the requirement")
    outages.puppets.release("roy")
    await outages.all_delivered()


async def ask(outages: Outages, directory: Path, *arguments: str) -> dict[str, str]:
    """What `ask-sasha` says."""
    cli = Cli(outages.orchestra.environment, directory)
    said = await asyncio.to_thread(cli, "ask-sasha", *arguments, "--json")
    assert said.code == 0, said.err
    return dict(json.loads(said.out))
