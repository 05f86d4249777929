"""What people see of costs and budgets, and how they raise one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.model import Bounds, RequirementState
from tests.e2e.conftest import STARTER, Cli, plan_of
from tests.eventually import eventually_async
from tests.orchestra import Orchestra, explained
from tests.orchestra_plans import BACKEND, team_of

_PROGRAM = """#!/bin/sh
cat > /dev/null
echo hello > "$AGOG_REQUIREMENT-$AGOG_AGENT.txt"
printf '{"type":"result","subtype":"success","is_error":false,"result":"Done.",'
printf '"total_cost_usd":1.25,"modelUsage":{"m":{"inputTokens":800,"cacheReadInputTokens":200,'
printf '"outputTokens":50}},"structured_output":{"agent":"%s",' "$AGOG_AGENT"
printf '"req_number":"%s","status":"COMPLETE","summary":"Done."}}\\n' "$AGOG_REQUIREMENT"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the program is; each of its runs costs $1.25."""
    program = tmp_path / "claude"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    tmp_path.joinpath("agents.toml").write_text(
        f'[defaults]\nkind = "claude-code"\nprogram = "{program}"\naccount = "night"\n'
        '[builds.backend]\nkind = "simulated"\n[builds.frontend]\nkind = "simulated"\n'
    )
    return tmp_path


async def test_spent_budget_is_shown_raised_and_the_costs_are_listed(
    orchestra: Orchestra, folder: Path
) -> None:
    cli = Cli(orchestra.environment, folder)
    given = {"AGOG_AGENTS_FILE": str(folder / "agents.toml"), "AGOG_DAY_BUDGET_USD": "40"}
    await orchestra.worker.start(**given)
    number = orchestra.number
    plan = replace(team_of("Research", "Backend"), bounds=Bounds(usd=1.0))
    handle = await orchestra.start(plan)

    async def is_held() -> bool:
        return any(hold.budget for hold in (await orchestra.view()).holds)

    await eventually_async(is_held, "its budget holds it")
    status, waiting = cli("status", number), cli("list", "--waiting")
    command = f"{STARTER} decide {number} raise-budget --usd"
    for said in (status.out, waiting.out):
        assert f"The budget of {number} is spent: $1.25 of $1.00." in " ".join(said.split()), said
        assert command in " ".join(said.split())
    assert " ".join(status.out.split()).count("is spent") == 1
    assert "1,050 $1.25" in " ".join(status.out.split())
    assert "$1.25 of $40.00 are spent" in status.out
    watched = cli("watch", number)
    assert (watched.code, f"{number} HELD" in watched.out) == (4, True), watched.err
    assert "completed, $1.25" in watched.err
    assert "is nearly spent" in watched.err
    document = cli("status", number, "--json").document
    assert [budget["is_spent"] for budget in document["budgets"]] == [True, False]

    for arguments, why in (
        ((), "--usd 20"),
        (("--usd", "-1"), "above zero"),
        (("--usd", "1.2"), "$1.25 of $1.00 are spent. Name more."),
        (("--usd", "30", "--day"), "does not raise"),
    ):
        refused = cli("decide", number, "raise-budget", *arguments)
        assert (refused.code, why in refused.err) == (2, True), refused.err
    assert "belong to raise-budget" in cli("decide", number, "approve", "--usd", "3").err
    assert "is spent" in cli("retry", number, "roy").err
    assert "is raised: $1.25 of $20.00" in cli("decide", number, "raise-budget", "--usd", "20").out
    report = await handle.result()

    assert report.state is RequirementState.DELIVERED, explained(await orchestra.view())
    by_stage = cli("costs", number)
    assert [BACKEND in by_stage.out, "Research" in by_stage.out] == [True, True]
    assert "2,100 tokens (2,000 in, 400 of them cached, 100 out), $2.50" in by_stage.out
    for key, named in (("agent", ["cynthia", "roy"]), ("account", ["night"]), ("run", None)):
        document = cli("costs", number, "--by", key, "--json").document
        assert named in (None, sorted(line["key"] for line in document["costs"]))
        assert sum(line["usd"] for line in document["costs"]) == document["total"]["usd"] == 2.5
    (day,) = cli("costs", "--by", "day", "--since", "24h", "--json").document["costs"]
    assert day["runs"] == 2
    assert cli("costs", "--since", "2999-01-01").out.startswith("No run of an agent")
    assert cli("costs", "--since", "soon").code == 2
    assert cli("costs", "REQ-NOBODY").code == 3
    events = [json.loads(line) for line in cli("events", number, "--json").out.splitlines()]
    completed = next(event for event in events if event["eventType"] == "stage.completed")
    assert (completed["usd"], completed["usdIsEstimated"]) == (1.25, False)
    assert events[-1]["usd"] == 2.5
    assert "$2.50" in cli("list").out

    assert "Nothing is known of Research, Critique" in cli("plan", "--budget", "9", **given).out
    small = folder / "small.toml"
    small.write_text(plan_of(("Research", "cynthia"), (BACKEND, "roy")))
    third = ("start", f"{number}-3", "--title", "A third", "--pipeline", str(small))
    assert "above zero" in cli(*third, "--budget", "0", **given).err
    started = cli(*third, "--budget", "0.5", "--wait", **given)
    assert (started.code, f"decide {number}-3 raise-budget" in started.err) == (4, True)
    # Nine stages, and three runs that cost $1.25 each to tell of them.
    for usd, enough, code in (("11", "is not enough", 1), ("11.25", "is enough", 0)):
        planned = cli("plan", "--budget", usd, AGOG_AGENTS_FILE=given["AGOG_AGENTS_FILE"])
        assert (planned.code, enough in planned.out) == (code, True), planned.out
        assert "$11.25 (p50), $11.25 (p80)" in planned.out
    document = cli("plan", "--budget", "9", "--json", **given).document
    assert {stage["source"] for stage in document["cost"]["stages"]} == {"runs of its kind"}
    assert (document["budget_usd"], document["cost"]["p80_usd"]) == (9.0, 11.25)


def test_plan_without_a_database_asks_the_agents_file(bare_cli: Cli, tmp_path: Path) -> None:
    agents = tmp_path / "agents.toml"
    agents.write_text('[defaults]\nkind = "claude-code"\nexpected_usd = 0.5\n')
    nowhere = "postgresql+psycopg://agog@127.0.0.1:9/agog"
    given = {"AGOG_AGENTS_FILE": str(agents), "DATABASE_URL": nowhere}
    planned = bare_cli("plan", "--budget", "4", **given)

    assert (planned.code, "A budget of $4.00 is not enough." in planned.out) == (1, True)
    assert "Earlier costs are not known" in planned.err
    assert bare_cli("plan", "--budget", "4.5", **given).code == 0
    assert "leave out --all" in bare_cli("plan", "--all", "--budget", "4", **given).err
    assert bare_cli("plan", "--budget", "0", **given).code == 2
