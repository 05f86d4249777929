"""`ask-sasha` as users run it: answered by a worker, or from here where there is none."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Cli, Host, plan_of, until
from tests.ports import own_port

DOWNGRADE = "May I downgrade this error?"
SLOTS = 4


@pytest.fixture
def endless_plan(tmp_path: Path) -> str:
    path = tmp_path / "plan.toml"
    path.write_text(plan_of(("Check", "todd")))
    return str(path)


def test_a_worker_answers(cli: Cli, host: Host) -> None:
    said = cli("ask-sasha", DOWNGRADE, "--agent", "roy", "--json")

    assert said.code == 0, said.err
    assert list(said.document) == [
        "schema_version", "requestingAgent", "question", "correlationId", "answer", "rule",
        "reason", "source", "timestamp",
    ]  # fmt: skip
    assert (said.document["answer"], said.document["source"]) == ("no", "rules")
    shown = cli("ask-sasha", DOWNGRADE)
    assert shown.out.splitlines()[0].split() == ["answer", "no"]
    assert "Rule 2" in shown.out


def test_every_slot_is_taken_and_the_answer_comes(cli: Cli, host: Host, endless_plan: str) -> None:
    numbers = [f"REQ-ASK-{index}" for index in range(SLOTS)]
    for number in numbers:
        started = cli("start", number, "--title", "Endless", "--pipeline", endless_plan)
        assert started.code == 0, started.err
    for number in numbers:
        until(lambda number=number: "running" in cli("status", number).out, f"{number} runs")  # type: ignore[misc] # bound per number

    said = cli(
        "ask-sasha", "May I extend my deadline?", "--agent", "todd", "--requirement", numbers[0],
        "--json",
    )  # fmt: skip

    assert said.code == 0, said.err
    assert said.document["answer"] == "yes"
    assert said.document["source"] == "rules and the SDLC database"
    assert "Check has 80000 minutes" in said.document["reason"]
    for number in numbers:
        assert cli("cancel", number).code == 0


def test_without_a_worker_the_command_answers_itself(bare_cli: Cli) -> None:
    down = {
        "NATS_URL": f"nats://127.0.0.1:{own_port()}",
        "DATABASE_URL": f"postgresql+psycopg://agog@127.0.0.1:{own_port()}/agog",
    }

    said = bare_cli("ask-sasha", DOWNGRADE, "--requirement", "REQ-1", "--json", **down)

    assert said.code == 0, said.err
    assert said.document["answer"] == "no"
    assert said.document["source"] == (
        "this command, as no worker answered: rules; the SDLC database cannot be reached"
    )


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([" "], "question must be a text that is not empty"),
        ([DOWNGRADE, "--requirement", "101"], "reqNumber '101' is not of the form REQ-…"),
        (["x" * 3_000], "question has 3000 characters"),
    ],
)
def test_what_is_no_question_is_refused(bare_cli: Cli, arguments: list[str], reason: str) -> None:
    said = bare_cli("ask-sasha", *arguments)

    assert said.code == 2
    assert reason in said.err
