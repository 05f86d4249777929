"""Fifty requirements run when a P0 is opened: beyond one boundary each, nothing else starts."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from pipeline.model import RequirementState
from tests.e2e.conftest import Cli, write_agents
from tests.eventually import eventually_async
from tests.orchestra import Orchestra

COUNT = 50
EVENTS_TO_THE_END = 60
"""Of a history, at most, from a hold at two stages to the delivery; measured: 46."""

_PLAN = """
name = "{name}"
[bounds]
reds = 1
"""
_GROUPS = {
    "First": '[[groups]]\nname = "First"\n',
    "Second": '[[groups]]\nname = "Second"\nneeds = ["First"]\n',
}
_STAGE = """
[[stages]]
name = "{name}"
agent = "{agent}"
group = "{group}"
minutes = {minutes}
deadline_minutes = 80000
"""
_OPENED_LATER = """
    SELECT count(*) FROM phase_history opened, phase_history urgent
    WHERE urgent.number = %s AND urgent.stage = '' AND urgent.target = 'ACCEPTED'
      AND opened.number <> urgent.number AND opened.stage <> '' AND opened.target = 'running'
      AND opened.id > urgent.id
"""
_STATES = "SELECT state, count(*) FROM requirements WHERE number <> %s GROUP BY state"
_OPEN_HOLDS = "SELECT count(*) FROM holds WHERE ended_at IS NULL"
_TOLD = """
    SELECT number, type FROM events
    WHERE type IN ('workflow.held', 'workflow.resumed', 'workflow.completed')
"""


def write_plan(directory: Path, name: str, *stages: tuple[str, str, str, int]) -> str:
    keys = ("name", "agent", "group", "minutes")
    tables = [_STAGE.format(**dict(zip(keys, stage, strict=True))) for stage in stages]
    groups = [_GROUPS[name] for name in dict.fromkeys(stage[2] for stage in stages)]
    path = directory / f"{name}.toml"
    path.write_text(_PLAN.format(name=name) + "".join([*groups, *tables]))
    return str(path)


@pytest.fixture
def cli(orchestra: Orchestra, tmp_path: Path) -> Cli:
    """Agents without processes; what they do is not what this is about."""
    agents = Path(orchestra.environment["AGOG_AGENTS_FILE"])
    write_agents(agents, {"sylvia": {"critique_verdict": "ESCALATE"}})
    return Cli(orchestra.environment, tmp_path)


async def states(orchestra: Orchestra, urgent: str) -> dict[str, int]:
    return {str(state): int(n) for state, n in await orchestra.query(_STATES, urgent)}


async def until_all(orchestra: Orchestra, urgent: str, state: RequirementState) -> None:
    async def are_there() -> bool:
        return await states(orchestra, urgent) == {str(state): COUNT}

    await eventually_async(are_there, f"all {COUNT} are {state}")


async def history_lengths(orchestra: Orchestra, numbers: Sequence[str]) -> list[int]:
    described = [await orchestra.handle(number).describe() for number in numbers]
    return [each.history_length for each in described]


@pytest.mark.slow
async def test_blocked_p0_holds_fifty_and_all_go_on_by_themselves(
    orchestra: Orchestra, cli: Cli, tmp_path: Path
) -> None:
    work = write_plan(
        tmp_path,
        "work",
        ("Research", "cynthia", "First", 8_000),
        ("Backend Implementation", "roy", "Second", 1),
        ("Frontend Implementation", "jen", "Second", 1),
    )
    asks = write_plan(tmp_path, "asks", ("Critique", "sylvia", "First", 1))
    numbers = [f"{orchestra.number}-{n}" for n in range(COUNT)]
    backlog = tmp_path / "backlog.jsonl"
    lines = [f'{{"req": "{n}", "title": "T", "pipeline": "{work}"}}' for n in numbers]
    backlog.write_text("\n".join(lines))
    await orchestra.worker.start(MAX_PARALLEL_STAGES="50")
    assert cli("start", "--batch", str(backlog)).code == 0
    await until_all(orchestra, "", RequirementState.RUNNING)

    urgent = f"{orchestra.number}-P0"
    started = cli("start", urgent, "--title", "T", "--priority", "P0", "--pipeline", asks)
    assert started.code == 0, started.err
    await orchestra.until_state(RequirementState.BLOCKED, urgent)
    await until_all(orchestra, urgent, RequirementState.HELD)

    async def are_both_stages_held() -> bool:
        return await orchestra.query(_OPEN_HOLDS) == [(2 * COUNT,)]

    await eventually_async(are_both_stages_held, "both stages of all are held")
    assert await orchestra.query(_OPENED_LATER, urgent) == [(0,)]
    before = await history_lengths(orchestra, numbers)
    assert cli("decide", urgent, "approve").code == 0
    assert cli("watch", urgent).code == 0
    await until_all(orchestra, urgent, RequirementState.DELIVERED)

    after = await history_lengths(orchestra, numbers)
    assert max(b - a for a, b in zip(before, after, strict=True)) <= EVENTS_TO_THE_END
    told = Counter((str(n), str(kind)) for n, kind in await orchestra.query(_TOLD))
    for number in numbers:
        assert told[number, "workflow.held"] == 2  # at both stages
        assert told[number, "workflow.resumed"] == told[number, "workflow.completed"] == 1
    assert await orchestra.query(_OPEN_HOLDS) == [(0,)]
