import asyncio
import json
import signal
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.local_stack import StackAddresses
from adapters.sdlc.store import create_store
from pipeline.model import Priority, RequirementOrder
from tests.e2e.conftest import STARTER, Cli, Host, plan_of, until
from tests.eventually import PATIENCE_SECONDS
from tests.plans import shipped

pytestmark = pytest.mark.usefixtures("host")


def plan_file(directory: Path, *stages: tuple[str, str]) -> str:
    path = directory / "plan.toml"
    path.write_text(plan_of(*stages))
    return str(path)


@pytest.fixture
def red_plan(tmp_path: Path) -> str:
    return plan_file(tmp_path, ("Work", "berry"), ("Check", "vic"))


@pytest.fixture
def endless_plan(tmp_path: Path) -> str:
    return plan_file(tmp_path, ("Work", "berry"), ("Check", "todd"))


def state_of(cli: Cli, number: str) -> str:
    said = cli("status", number, "--json")
    return str(said.document["state"]) if said.code == 0 else ""


def test_a_requirement_is_started_followed_and_shown(cli: Cli) -> None:
    started = cli("start", "REQ-E2E-1", "--title", "[bold]Greet[/bold] \u00fc", "--wait")

    assert started.code == 0, started.err
    assert started.out == "REQ-E2E-1 DELIVERED\n"
    assert "Backend Implementation (roy) completed" in started.err
    document = cli("status", "REQ-E2E-1", "--json").document
    assert list(document) == [
        "schema_version", "req_number", "state", "title", "priority", "pipeline", "mode", "round",
        "stages", "gates", "failures", "waiting_for", "parent", "assignee", "fixes", "escalation",
        "queued", "building", "holds", "pauses", "past_holds", "holders", "retries", "leftover",
        "moves", "turn", "usd", "usd_is_estimated", "usd_is_partial",
        "tokens", "input_tokens", "cached_tokens", "output_tokens", "budgets",
        "reason", "delivery", "project", "host", "created_at", "started_at", "ended_at", "expected",
        "brought", "installation", "missing_dependency", "wrong_installation", "missing_worker",
        "broken_agents_file",
    ]  # fmt: skip
    assert document["schema_version"] == 1
    assert document["title"] == "[bold]Greet[/bold] ü"
    assert document["failures"] == []
    stages = {stage["stage"]: stage for stage in document["stages"]}
    assert list(stages["Research"]) == [
        "stage", "agent", "state", "attempt", "starts", "resumes", "started_at", "ended_at",
        "reason",
        "is_suspended", "remarks", "usd", "usd_is_estimated", "usd_is_partial",
        "tokens", "input_tokens", "cached_tokens", "output_tokens", "session",
        "prepared", "prepare_started_at", "prepare_ended_at",
    ]  # fmt: skip
    assert stages["Backend Implementation"]["starts"] == 1
    assert stages["Performance Testing"]["state"] == "skipped"
    assert "needs_todd" in stages["Performance Testing"]["reason"]
    shown = cli("status", "REQ-E2E-1")
    assert "[bold]Greet[/bold] ü" in shown.out
    assert "build backend" in shown.out
    assert cli("watch", "REQ-E2E-1").code == 0
    followed = [json.loads(line) for line in cli("watch", "REQ-E2E-1", "--json").out.splitlines()]
    assert followed[-1]["state"] == "DELIVERED"


def test_logs_events_and_lists_are_read(cli: Cli) -> None:
    assert cli("start", "REQ-E2E-2", "--title", "Read me", "--wait").code == 0

    events = [json.loads(line) for line in cli("events", "REQ-E2E-2", "--json").out.splitlines()]
    assert [events[0]["eventType"], events[-1]["eventType"]] == [
        "workflow.started",
        "workflow.performance",
    ]
    assert {event["reqNumber"] for event in events} == {"REQ-E2E-2"}
    assert len({event["eventId"] for event in events}) == len(events)
    assert "stage.completed" in cli("events", "REQ-E2E-2", "--since", "1h").out
    assert "cynthia completed research" in cli("logs", "REQ-E2E-2", "Research").out
    assert cli("logs", "REQ-E2E-2", "roy", "--json", "-f").out.startswith('{"schema_version": 1')
    delivered = cli("list", "--state", "DELIVERED", "--json").document["requirements"]
    assert "REQ-E2E-2" in [summary["req_number"] for summary in delivered]
    assert "REQ-E2E-2" in cli("list").out
    assert "REQ-E2E-2" not in cli("list", "--waiting").out


def test_a_number_is_used_once(cli: Cli) -> None:
    assert cli("start", "REQ-E2E-once", "--title", "One").code == 0

    again = cli("start", "REQ-E2E-once", "--title", "Two")
    cased = cli("start", "REQ-E2E-ONCE", "--title", "Three")
    joined = cli("start", "REQ-E2E-once", "--title", "One", "--attach", "--wait")

    assert (again.code, cased.code, joined.code) == (2, 2, 0)
    assert "--attach" in again.err
    assert "REQ-E2E-once differs only in case" in cased.err
    assert joined.out == "REQ-E2E-once DELIVERED\n"
    assert cli("status", "REQ-E2E-once", "--json").document["title"] == "One"


def test_a_start_that_got_no_further_than_its_row_is_completed(
    cli: Cli, stack: StackAddresses
) -> None:
    order = RequirementOrder(
        number="REQ-E2E-half",
        title="As it was accepted",
        priority=Priority.P1,
        pipeline=shipped("critical-path"),
        sequential=False,
        heartbeat=timedelta(seconds=3),
    )

    async def accept() -> None:
        store = create_store(stack.database_url)
        await store.accept(order, "")
        await store.close()

    asyncio.run(accept())
    assert cli("cancel", "REQ-E2E-half").code == 2

    completed = cli("start", "REQ-E2E-half", "--title", "As it was accepted", "--wait")

    assert completed.code == 0, completed.err
    assert cli("status", "REQ-E2E-half", "--json").document["pipeline"] == "critical-path"


def test_a_backlog_is_started_as_a_whole_or_not_at_all(cli: Cli, tmp_path: Path) -> None:
    backlog = tmp_path / "backlog.jsonl"
    good = [{"req": f"REQ-E2E-B{n}", "title": f"Item {n}", "sequential": n == 1} for n in (1, 2)]
    lines = [*good, {"req": "REQ-E2E-B3", "title": "x", "pipeline": "nope"}]
    backlog.write_text("\n".join(map(json.dumps, lines)))
    refused = cli("start", "--batch", str(backlog))
    assert refused.code == 2
    assert "line 3: Unknown pipeline 'nope'" in refused.err
    assert cli("status", "REQ-E2E-B1").code == 3

    backlog.write_text("\n".join(map(json.dumps, good)))
    started = cli("start", "--batch", str(backlog), "--wait")
    assert started.code == 0, started.err
    assert sorted(started.out.splitlines()) == ["REQ-E2E-B1 DELIVERED", "REQ-E2E-B2 DELIVERED"]
    assert cli("status", "REQ-E2E-B1", "--json").document["mode"] == "sequential"

    backlog.write_text("\n".join(map(json.dumps, [*good, {"req": "REQ-E2E-B4", "title": "x"}])))
    taken = cli("start", "--batch", str(backlog))
    assert taken.code == 2
    assert "REQ-E2E-B1" in taken.err
    assert cli("status", "REQ-E2E-B4").code == 3


def test_what_is_red_waits_for_a_human_and_goes_on(
    cli: Cli, host: Host, red_plan: str, tmp_path: Path
) -> None:
    blocked = cli("start", "REQ-E2E-red", "--title", "x", "--pipeline", red_plan, "--wait")
    assert blocked.code == 4, blocked.err
    assert "the login is open" in blocked.err
    assert f"{STARTER} retry REQ-E2E-red Check" in blocked.err
    status = cli("status", "REQ-E2E-red", "--json").document
    assert status["waiting_for"] == "human"
    assert status["failures"][0]["owners"] == ["roy"]
    assert "REQ-E2E-red" in cli("list", "--waiting").out
    approved = cli("decide", "REQ-E2E-red", "approve")
    assert approved.code == 2
    assert "No verdict is asked for" in approved.err
    assert cli("retry", "REQ-E2E-red", "Nothing").code == 3

    host.restart({"sylvia": {"critique_verdict": "ESCALATE", "reasons": ["whose budget?"]}})
    retried = cli("retry", "REQ-E2E-red", "vic", "--note", "closed now")
    assert (retried.code, retried.out) == (0, "REQ-E2E-red continues: Check.\n"), retried.err
    assert cli("watch", "REQ-E2E-red").code == 0

    critique = plan_file(tmp_path, ("Research", "cynthia"), ("Critique", "sylvia"))
    asked = cli("start", "REQ-E2E-ask", "--title", "x", "--pipeline", critique, "--wait")
    assert asked.code == 4
    assert f"{STARTER} decide REQ-E2E-ask approve" in asked.err
    assert cli("decide", "REQ-E2E-ask", "approve").code == 0
    assert cli("watch", "REQ-E2E-ask").code == 0
    host.restart()


def test_a_given_up_requirement_has_failed(cli: Cli, red_plan: str) -> None:
    started = cli("start", "REQ-E2E-abort", "--title", "x", "--pipeline", red_plan, "--wait")
    assert started.code == 4, started.err

    assert cli("decide", "REQ-E2E-abort", "abort", "--note", "too late").code == 0

    assert cli("watch", "REQ-E2E-abort").code == 1
    refused = cli("decide", "REQ-E2E-abort", "abort")
    assert refused.code == 2
    assert "has ended: it is FAILED" in refused.err


def test_a_running_requirement_is_left_extended_and_cancelled(cli: Cli, endless_plan: str) -> None:
    started = cli("start", "REQ-E2E-long", "--title", "x", "--pipeline", endless_plan)
    assert started.code == 0, started.err
    with cli.open("watch", "REQ-E2E-long") as watching:
        assert watching.stderr
        until(lambda: "Check" in str(running_of(cli, "REQ-E2E-long")), "a running stage")
        assert "[REQ-E2E-long]" in watching.stderr.readline()  # it looks on by now
        watching.send_signal(signal.SIGINT)
        out, err = watching.communicate(timeout=PATIENCE_SECONDS)
    assert (watching.returncode, out) == (130, "")
    assert f"{STARTER} watch REQ-E2E-long" in err
    assert state_of(cli, "REQ-E2E-long") == "RUNNING"

    assert cli("extend", "REQ-E2E-long", "Work", "--minutes", "5", "--reason", "r").code == 2
    assert cli("extend", "REQ-E2E-long", "check", "--minutes", "5", "--reason", "r").code == 0
    cancelled = cli("cancel", "REQ-E2E-long")
    assert (cancelled.code, cancelled.out) == (0, "REQ-E2E-long is CANCELLED.\n")
    assert state_of(cli, "REQ-E2E-long") == "CANCELLED"
    assert cli("watch", "REQ-E2E-long").code == 5
    assert cli("cancel", "REQ-E2E-long").code == 2
    last = cli("events", "REQ-E2E-long", "--json").out
    assert last.count('"workflow.cancelled"') == 1


def running_of(cli: Cli, number: str) -> list[str]:
    stages = cli("status", number, "--json").document["stages"]
    return [stage["stage"] for stage in stages if stage["state"] == "running"]


def test_what_does_not_exist_is_not_found(cli: Cli) -> None:
    for command in (
        ("status", "REQ-NONE"),
        ("watch", "REQ-NONE"),
        ("logs", "REQ-NONE", "Research"),
        ("cancel", "REQ-NONE"),
        ("retry", "REQ-NONE", "Research"),
        ("decide", "REQ-NONE", "abort"),
    ):
        said = cli(*command)
        assert said.code == 3, said.err
        assert said.err.startswith("Error: There is no requirement REQ-NONE. `")
        assert said.err.endswith("starter.py list` shows all that there are.\n")
        assert said.out == ""


def test_the_doctor_finds_everything_well_beside_a_worker(cli: Cli) -> None:
    said = cli("doctor", "--json")

    assert said.code == 0, said.out
    checks = {check["name"]: check for check in said.document["checks"]}
    assert all(check["ok"] for check in checks.values())
    assert checks["SDLC database"]["version"]
    assert checks["NATS"]["latency_ms"] > 0


def test_rollout_shows_builds_and_refuses_one_that_no_worker_has(cli: Cli, host: Host) -> None:
    shown = cli("rollout")
    assert (shown.code, "No worker has named its build" in shown.out) == (0, True)
    assert cli("rollout", "--json").document["builds"] == []

    assert "No worker has named its build" in cli("rollout", "--none").out

    unknown, both = cli("rollout", "nine"), cli("rollout", "nine", "--none")

    assert (unknown.code, both.code, cli("rollout", "").code) == (2, 2, 2)
    assert "AGOG_WORKER_BUILD_ID=nine first" in unknown.err
    assert "not both" in both.err
