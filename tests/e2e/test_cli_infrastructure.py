"""A P0 that stands for a component nobody could repair, as people see and answer it."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from adapters.local_stack import StackAddresses
from adapters.temporal.client import connect
from pipeline.model import Alert, AlertKind, InfrastructureOrder
from tests.e2e.conftest import STARTER, Cli, installation_at, plan_of, until
from workflows.infrastructure import InfrastructureWorkflow

pytestmark = pytest.mark.usefixtures("host")

DETAIL = "12 MiB are free at /x, less than 1024 MiB."

Escalate = Callable[[str], None]


async def begin(stack: StackAddresses, number: str) -> None:
    """Let it stand for a host that nobody serves: no look finds that it works again."""
    alert = Alert(AlertKind.DISK_LOW, "disk", "nowhere", DETAIL)
    order = InfrastructureOrder(number, "nowhere", alert, ("Removed nothing.",))
    client = await connect(stack.temporal_address)
    queues = (await installation_at(stack)).queues
    await client.start_workflow(
        InfrastructureWorkflow.run, order, id=number, task_queue=queues.central
    )


@pytest.fixture
def escalate(cli: Cli, stack: StackAddresses) -> Iterator[Escalate]:
    numbers: list[str] = []

    def escalate(number: str) -> None:
        numbers.append(number)
        asyncio.run(begin(stack, number))
        until(lambda: cli("status", number).code == 0, f"{number} is written down")

    yield escalate
    for number in numbers:
        cli("cancel", number)


def test_infrastructure_requirement_shows_its_question_and_takes_its_answers(
    cli: Cli, escalate: Escalate, tmp_path: Path
) -> None:
    escalate("REQ-INFRA-disk-1")
    (small := tmp_path / "small.toml").write_text(plan_of(("Work", "berry")))
    started = cli("start", "REQ-HELD-1", "--title", "A title", "--pipeline", str(small))
    assert started.code == 0, started.err

    said = cli("status", "REQ-INFRA-disk-1")
    seen = cli("doctor", "--json").document["sasha"]["requirements"]

    assert "stage" not in said.out
    assert DETAIL in said.out
    assert "- Removed nothing." in said.out
    offered = said.out.partition("Possible answers:\n")[2].splitlines()
    command = f"  {STARTER} "
    offered = [*takewhile(lambda line: line.startswith(command), offered)]
    assert [line.removeprefix(command) for line in offered] == [
        "retry REQ-INFRA-disk-1 deliver",
        "decide REQ-INFRA-disk-1 abort",
    ]
    assert [each["req_number"] for each in seen] == ["REQ-INFRA-disk-1"]
    assert cli("watch", "REQ-INFRA-disk-1").code == 4

    assert cli("retry", "REQ-INFRA-disk-1", "deliver").code == 0
    assert "has no stages" in cli("logs", "REQ-INFRA-disk-1", "deliver").err
    assert "a look decides" in cli("decide", "REQ-INFRA-disk-1", "approve").err
    assert cli("status", "REQ-HELD-1", "--json").document["state"] == "HELD"
    assert cli("decide", "REQ-INFRA-disk-1", "abort", "--note", "Not needed").code == 0
    until(lambda: "Not needed" in cli("status", "REQ-INFRA-disk-1").out, "its end")
    assert cli("status", "REQ-INFRA-disk-1", "--json").document["state"] == "FAILED"
    assert cli("watch", "REQ-HELD-1").code == 0


def test_infrastructure_requirement_can_be_cancelled(cli: Cli, escalate: Escalate) -> None:
    escalate("REQ-INFRA-disk-2")

    said = cli("cancel", "REQ-INFRA-disk-2")

    assert (said.code, said.out) == (0, "REQ-INFRA-disk-2 is CANCELLED.\n"), said.err
    assert cli("watch", "REQ-INFRA-disk-2").code == 5


def test_deadline_of_no_stage_is_not_extended(cli: Cli, escalate: Escalate) -> None:
    escalate("REQ-INFRA-disk-3")

    said = cli("extend", "REQ-INFRA-disk-3", "deliver", "--minutes", "5", "--reason", "Once more")

    assert (said.code, said.out) == (3, "")
    assert said.err == "Error: REQ-INFRA-disk-3 has no stages.\n"
