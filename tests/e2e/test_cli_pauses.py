"""`pause`, `unpause`, `drain` and `cancel --all`, as an owner sees and types them."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import STARTER, Cli, Host, plan_of, until


@pytest.fixture
def plans(tmp_path: Path) -> tuple[str, str]:
    """An endless pipeline, and one that is over at once."""
    paths = []
    for name, agent in (("Check", "todd"), ("Work", "berry")):
        path = tmp_path / f"{name}.toml"
        path.write_text(plan_of((name, agent)))
        paths.append(str(path))
    return paths[0], paths[1]


@pytest.fixture
def going(cli: Cli) -> Iterator[None]:
    """Nothing stays paused."""
    yield
    cli("unpause", "--all")


def start(cli: Cli, number: str, plan: str) -> str:
    said = cli("start", number, "--title", "A title", "--pipeline", plan)
    assert said.code == 0, said.err
    return said.err


def until_state(cli: Cli, number: str, state: str) -> None:
    until(lambda: cli("status", number, "--json").document["state"] == state, f"{number} {state}")


@pytest.mark.usefixtures("going")
def test_work_is_paused_resumed_drained_and_cancelled(
    cli: Cli, host: Host, plans: tuple[str, str]
) -> None:
    start(cli, "REQ-STOP-1", plans[0])
    until_state(cli, "REQ-STOP-1", "RUNNING")
    said = cli("pause", "REQ-STOP-1")
    assert (said.code, "running agents go on" in said.out) == (0, True), said.err
    shown = cli("status", "REQ-STOP-1").out
    assert "It is paused: nothing new starts." in shown
    assert f"It continues with: {STARTER} unpause REQ-STOP-1" in shown
    assert "pause of REQ-STOP-1" in cli("list", "--waiting").out

    assert cli("pause", "REQ-STOP-1", "--now").code == 0
    until_state(cli, "REQ-STOP-1", "HELD")
    host.restart()  # it outlasts the worker
    document = cli("status", "REQ-STOP-1", "--json").document
    assert [(each["scope"], each["kind"]) for each in document["pauses"]] == [
        ("REQ-STOP-1", "suspend")
    ]
    assert document["stages"][0]["is_suspended"]
    assert cli("unpause", "REQ-STOP-1").out == "REQ-STOP-1 continues.\n"
    until_state(cli, "REQ-STOP-1", "RUNNING")

    assert "REQ-STOP-1 continues to its end" in cli("drain").out
    assert "Nothing new is taken, by" in start(cli, "REQ-STOP-2", plans[1])
    until_state(cli, "REQ-STOP-2", "HELD")
    assert cli("status", "REQ-STOP-1", "--json").document["pauses"] == []
    assert cli("pause", "--all").code == 0
    refused = cli("drain")
    assert (refused.code, "What is under way cannot end" in refused.err) == (2, True)
    assert cli("unpause", "--all").out == "Everything continues.\n"
    until_state(cli, "REQ-STOP-2", "DELIVERED")

    assert cli("pause", "--all", "--now").code == 0
    until_state(cli, "REQ-STOP-1", "HELD")
    unsure = cli("cancel", "--all")
    assert (unsure.code, "--yes" in unsure.err) == (2, True)
    said = cli("cancel", "--all", "--yes")
    assert (said.code, "REQ-STOP-1 is CANCELLED." in said.out) == (0, True), said.err
    assert cli("cancel", "--all", "--yes").out == "Nothing is under way.\n"

    assert cli("unpause", "--all").code == 0
    start(cli, "REQ-STOP-3", plans[1])
    start(cli, "REQ-STOP-4", plans[0])
    until_state(cli, "REQ-STOP-4", "RUNNING")
    assert cli("pause", "REQ-STOP-4", "--now").code == 0
    until_state(cli, "REQ-STOP-4", "HELD")
    drained = cli("drain", "--wait")
    assert (drained.code, "REQ-STOP-4 stays paused" in drained.out) == (0, True), drained.err
    assert cli("list", "--state", "RUNNING").out.count("REQ-STOP") == 0
    assert cli("cancel", "REQ-STOP-4").code == 0


@pytest.mark.usefixtures("host")
def test_ended_requirement_is_copied_to_a_new_number(cli: Cli, plans: tuple[str, str]) -> None:
    options = ("--pipeline", plans[1], "--priority", "P1", "--description", "In full.")
    first = cli("start", "REQ-BURNT", "--title", "A title", *options, "--wait")
    assert first.code == 0, first.err
    burnt = cli("start", "REQ-BURNT", "--title", "A title", *options)
    assert (burnt.code, "start --again REQ-BURNT" in burnt.err) == (2, True)

    said = cli("start", "--again", "REQ-BURNT", "--wait")

    assert (said.code, "REQ-BURNT-2" in said.err) == (0, True), said.err
    old, new = (cli("status", each, "--json").document for each in ("REQ-BURNT", "REQ-BURNT-2"))
    for field in ("title", "priority", "pipeline", "state"):
        assert old[field] == new[field]
    assert "In full." in cli("prompt", "REQ-BURNT-2", "Work").out
    assert cli("start", "--again", "REQ-NOWHERE").code == 3


@pytest.mark.parametrize("command", ["pause", "unpause", "cancel"])
def test_one_number_or_all_is_named(bare_cli: Cli, command: str) -> None:
    for arguments in ((), ("REQ-1", "--all")):
        said = bare_cli(command, *arguments)
        assert (said.code, said.out) == (2, "")
        assert said.err == "Error: Name one requirement, or --all: not both, not neither.\n"
