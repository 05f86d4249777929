"""The real programs, run as agents by the real host, against stand-ins of their APIs."""

from pathlib import Path

import pytest

from tests.agents.scenarios import SCENARIOS, left_of, play
from tests.fixtures_runs import Bench

pytestmark = pytest.mark.agents


@pytest.mark.parametrize("name", SCENARIOS)
async def test_each_ending_is_told_by_the_program(name: str, runs: Bench, clone: Path) -> None:
    scenario = SCENARIOS[name]

    await play(scenario, runs, clone)
    result = runs.directory(runs.order()).own_result()

    assert result.report
    assert (result.report.ending, result.end) == (scenario.ending, scenario.end)
    assert scenario.detail in result.report.detail
    assert left_of(runs.all_runs()[0].path) == []
