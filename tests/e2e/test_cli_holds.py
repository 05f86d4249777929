"""What people see of holds: by whom, since when, why, and what to do about one without an end."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import STARTER, Cli, heard, plan_of, until
from tests.eventually import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("host")


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
def started(cli: Cli) -> Iterator[list[str]]:
    """Numbers that are cancelled in the end, the urgent first."""
    numbers: list[str] = []
    yield numbers
    for number in reversed(numbers):
        assert cli("cancel", number).code in (0, 2)


def start(cli: Cli, number: str, plan: str, *options: str) -> None:
    said = cli("start", number, "--title", "A title", "--pipeline", plan, *options)
    assert said.code == 0, said.err


def until_state(cli: Cli, number: str, state: str) -> None:
    until(lambda: cli("status", number, "--json").document["state"] == state, f"{number} {state}")


def test_pre_empted_agent_is_seen_to_be_suspended(
    cli: Cli, plans: tuple[str, str], started: list[str]
) -> None:
    started += ["REQ-SEEN-1", "REQ-SEEN-0"]
    start(cli, "REQ-SEEN-1", plans[0])
    until_state(cli, "REQ-SEEN-1", "RUNNING")
    start(cli, "REQ-SEEN-0", plans[0], "--priority", "P0", "--preempt")
    until_state(cli, "REQ-SEEN-1", "HELD")

    document = cli("status", "REQ-SEEN-1", "--json").document
    said = cli("status", "REQ-SEEN-1").out
    waiting = cli("list", "--waiting").out

    assert [(one["state"], one["is_suspended"]) for one in document["stages"]] == [
        ("running", True)
    ]
    assert document["holders"] == [{"req_number": "REQ-SEEN-0", "state": "RUNNING"}]
    assert "suspended" in said
    assert "Agents suspended since" in said
    assert "by REQ-SEEN-0 (RUNNING): REQ-SEEN-0 pre-empts what runs." in said
    assert "REQ-SEEN-0 pre-empts what runs." in waiting
    with cli.open("watch", "REQ-SEEN-1") as watch:
        assert watch.stderr
        assert "[REQ-SEEN-1]" in heard(watch.stderr, "[REQ-SEEN-1]")  # it looks on by now
        assert cli("cancel", "REQ-SEEN-0").code == 0
        until_state(cli, "REQ-SEEN-1", "RUNNING")
        assert watch.poll() is None
        watch.send_signal(signal.SIGINT)
        _, err = watch.communicate(timeout=PATIENCE_SECONDS)
    assert watch.returncode == 130, err
    over = cli("status", "REQ-SEEN-1", "--json").document
    assert [hold["boundary"] for hold in over["past_holds"]] == ["running agents"]
    assert (over["holds"], over["stages"][0]["is_suspended"]) == ([], False)
    assert "Past holds: 1" in cli("status", "REQ-SEEN-1").out


def test_blocker_that_is_not_delivered_is_named_with_the_way_out(
    cli: Cli, plans: tuple[str, str]
) -> None:
    start(cli, "REQ-SEEN-2", plans[0])
    start(cli, "REQ-SEEN-3", plans[1], "--blocked-by", "REQ-SEEN-2")
    until_state(cli, "REQ-SEEN-3", "HELD")
    assert "by REQ-SEEN-2 (" in cli("status", "REQ-SEEN-3").out

    with cli.open("watch", "REQ-SEEN-3") as watch:
        assert watch.stderr
        told = heard(watch.stderr, "HELD")
        assert cli("cancel", "REQ-SEEN-2").code == 0
        said = cli("status", "REQ-SEEN-3").out
        way_out = said.partition(f"Continue without it:\n  {STARTER} ")[2].splitlines()[0]
        assert way_out == "unblock REQ-SEEN-3 --by REQ-SEEN-2"
        assert cli(*way_out.split()).code == 0
        _, err = watch.communicate(timeout=PATIENCE_SECONDS)

    assert watch.returncode == 0, err
    assert "[REQ-SEEN-3] HELD, waits for REQ-SEEN-2" in told


def test_steering_that_makes_no_sense_says_why_and_leaves_nothing(
    cli: Cli, plans: tuple[str, str]
) -> None:
    new = ("start", "REQ-SEEN-9", "--title", "A title", "--pipeline", plans[1])
    for command, code, reason in (
        ((*new, "--blocked-by", " , "), 2, "names no requirement: give numbers like REQ-1,REQ-2."),
        ((*new, "--blocked-by", "REQ-SEEN-9"), 2, "cannot wait for itself"),
        ((*new, "--blocked-by", "REQ-NOWHERE"), 2, "no requirement REQ-NOWHERE"),
        ((*new, "--priority", "P1", "--preempt"), 2, "only a P0 pre-empts what runs"),
        (("start", "--batch", "absent.jsonl", "--preempt"), 2, "--batch stands alone"),
        (("start", "--batch", "absent.jsonl", "--priority", "P0"), 2, "--batch stands alone"),
        (("block", "REQ-NOWHERE", "--by", "REQ-SEEN-9"), 3, "no requirement REQ-NOWHERE"),
        (("block", "REQ-SEEN-9", "--by", ""), 2, "not of the form REQ-…"),
        (("unblock", "REQ-NOWHERE", "--by", "REQ-SEEN-9"), 3, "no requirement REQ-NOWHERE"),
        (("slots", "0"), 2, "1 to 1000 agents"),
        (("ask-sasha", "May I?", "--agent", "zorro"), 2, "There is no agent 'zorro': human,"),
    ):
        said = cli(*command)
        assert (said.code, said.out) == (code, ""), said.err
        assert reason in said.err
        assert len(said.err.splitlines()) == 1
    assert cli("status", "REQ-SEEN-9").code == 3
    assert not (Path(cli.environment["AGOG_HOME"]) / "slots.json").exists()
