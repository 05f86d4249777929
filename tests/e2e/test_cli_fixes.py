"""What the command line shows of failures that are being repaired, or that a human is asked of."""

import signal
from pathlib import Path

import pytest

from tests.e2e.conftest import RED, STARTER, Cli, Host, heard, plan_of, until
from tests.eventually import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("host")

ENDLESS_FIX = """
name = "small"
[[groups]]
name = "Test"
needs = []
[[stages]]
name = "Test"
agent = "billy"
group = "Test"
minutes = 10
[[groups]]
name = "Work"
needs = ["Test"]
[[stages]]
name = "Work"
agent = "roy"
group = "Work"
minutes = 40000
deadline_minutes = 80000
flag = "needs_todd"
[[groups]]
name = "Check"
needs = ["Work"]
[[stages]]
name = "Check"
agent = "vic"
group = "Check"
minutes = 10
"""
"""roy is skipped, and owns what vic finds: the fix runs for as long as roy's stage would."""


@pytest.fixture
def endless_fix(tmp_path: Path) -> str:
    path = tmp_path / "plan.toml"
    path.write_text(ENDLESS_FIX)
    return str(path)


def test_a_fix_under_way_is_followed_shown_and_asks_nobody(cli: Cli, endless_fix: str) -> None:
    arguments = ("REQ-FIXED", "--title", "x", "--pipeline", endless_fix, "--wait")
    with cli.open("start", *arguments) as waiting:
        assert waiting.stderr
        told = heard(waiting.stderr, "BLOCKED, waits for REQ-FIXED-FIX-1")
        status = cli("status", "REQ-FIXED", "--json").document
        fix = cli("status", "REQ-FIXED-FIX-1")
        refusals = [
            cli("decide", "REQ-FIXED-FIX-1", "abort"),
            cli("retry", "REQ-FIXED-FIX-1", "roy"),
        ]
        assert waiting.poll() is None
        waiting.send_signal(signal.SIGINT)
        waiting.communicate(timeout=PATIENCE_SECONDS)

    assert "❌ verdict Check (roy): the login is open" in told
    assert "REQ-FIXED-FIX-1 opened: roy repairs verdict Check" in told
    [shown] = status["fixes"]
    assert list(shown) == [
        "req_number", "parent", "depth", "assignee", "gate", "state", "reason", "created_at",
        "ended_at", "usd", "usd_is_estimated", "usd_is_partial",
        "tokens", "input_tokens", "cached_tokens", "output_tokens",
    ]  # fmt: skip
    assert (shown["req_number"], shown["gate"]) == ("REQ-FIXED-FIX-1", "verdict Check")
    assert status["escalation"] is None
    assert "A fix by roy; it repairs REQ-FIXED." in fix.out
    for refused in refusals:
        assert refused.code == 2
        assert refused.err.startswith("Error: REQ-FIXED-FIX-1 is a fix, which asks nobody")
    assert "↳ REQ-FIXED:" in cli("list").out
    assert cli("cancel", "REQ-FIXED").code == 0
    assert cli("watch", "REQ-FIXED-FIX-1").code == 5


def test_a_fix_that_fails_is_told_and_the_watch_continues_to_the_question(
    cli: Cli, host: Host, tmp_path: Path
) -> None:
    host.restart({"tim": {"status": "FAILED", "failures": ["no staging"]}})
    plan = tmp_path / "plan.toml"
    plan.write_text(plan_of(("Document", "tim")))

    waited = cli("start", "REQ-UNFIXED", "--title", "x", "--pipeline", str(plan), "--wait")
    host.restart()

    assert waited.code == 4, waited.err
    assert "REQ-UNFIXED-FIX-1 (tim) FAILED" in waited.err
    assert "A human is asked: " in waited.err
    assert f"{STARTER} retry REQ-UNFIXED Document" in waited.err
    assert cli("watch", "REQ-UNFIXED-FIX-1").code == 1


def test_what_waits_for_a_human_says_since_when_and_why(cli: Cli, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(plan_of(("Work", "tim"), ("Check", "vic")))
    arguments = ("--title", "x", "--priority", "P1", "--pipeline", str(plan), "--wait")
    assert cli("start", "REQ-ASKED", *arguments).code == 4

    listed = cli("list", "--waiting", "--json").document["requirements"]
    [asked] = [each for each in listed if each["req_number"] == "REQ-ASKED"]
    escalation = cli("status", "REQ-ASKED", "--json").document["escalation"]
    shown = cli("list", "--waiting").out
    assert cli("decide", "REQ-ASKED", "abort").code == 0
    until(lambda: "REQ-ASKED" not in cli("list", "--waiting").out, "the end of the waiting")

    assert (asked["waiting_for"], asked["waiting_since"]) == ("human", escalation["created_at"])
    assert asked["asks"] == escalation["asks"]
    assert list(escalation) == ["escalation", "round", "asks", "answers", "created_at", "reminders"]
    assert escalation["answers"] == ["retry Check", "decide abort"]
    assert escalation["asks"][0]["gate"] == "verdict Check"
    assert escalation["asks"][0]["reason"] in shown
    assert RED["owner"] == "backend"
    assert "roy has no stage in this plan" in shown
