"""Who is held by whom, and what lets them go, from the command line."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Cli, plan_of, until

pytestmark = pytest.mark.usefixtures("host")


@pytest.fixture
def endless(tmp_path: Path) -> str:
    path = tmp_path / "endless.toml"
    path.write_text(plan_of(("Check", "todd")))
    return str(path)


@pytest.fixture
def small(tmp_path: Path) -> str:
    path = tmp_path / "small.toml"
    path.write_text(plan_of(("Work", "berry")))
    return str(path)


def start(cli: Cli, number: str, plan: str, *options: str) -> None:
    started = cli("start", number, "--title", "A title", "--pipeline", plan, *options)
    assert started.code == 0, started.err


def until_held(cli: Cli, number: str, by: str) -> None:
    def is_held() -> bool:
        document = cli("status", number, "--json").document
        return (document["state"], document["waiting_for"]) == ("HELD", by)

    until(is_held, f"{number} is held by {by}")


def test_requirement_waits_for_its_blocker_until_unblock(
    cli: Cli, endless: str, small: str
) -> None:
    start(cli, "REQ-LINE-1", endless)
    start(cli, "REQ-LINE-2", small, "--blocked-by", "REQ-LINE-1")
    until_held(cli, "REQ-LINE-2", "REQ-LINE-1")

    circle = cli("block", "REQ-LINE-1", "--by", "REQ-LINE-2")
    assert (circle.code, "wait for ever" in circle.err) == (2, True)
    assert "REQ-LINE-2" in cli("list", "--waiting").out
    assert "Held at opening since" in cli("status", "REQ-LINE-2").out
    assert cli("unblock", "REQ-LINE-2", "--by", "REQ-LINE-1").code == 0
    assert cli("watch", "REQ-LINE-2").code == 0
    assert cli("unblock", "REQ-LINE-2", "--by", "REQ-LINE-1").code == 2
    assert cli("cancel", "REQ-LINE-1").code == 0


def test_open_p0_holds_until_its_end(cli: Cli, endless: str, small: str) -> None:
    start(cli, "REQ-LINE-0", endless, "--priority", "P0")
    start(cli, "REQ-LINE-3", small)
    until_held(cli, "REQ-LINE-3", "REQ-LINE-0")

    assert cli("cancel", "REQ-LINE-0").code == 0
    assert cli("watch", "REQ-LINE-3").code == 0


def test_unknown_blocker_is_refused(cli: Cli, small: str) -> None:
    options = ("--title", "A title", "--pipeline", small, "--blocked-by", "REQ-LINE-99")
    refused = cli("start", "REQ-LINE-4", *options)

    assert (refused.code, "no requirement REQ-LINE-99" in refused.err) == (2, True)
    assert cli("status", "REQ-LINE-4").code == 3
