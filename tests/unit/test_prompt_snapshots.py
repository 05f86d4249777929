from pathlib import Path

import pytest

from pipeline.team import TEAM
from tests.prompts.record import told

SNAPSHOTS = Path(__file__).parent.parent / "prompts"


@pytest.mark.parametrize("agent", TEAM)
def test_each_agent_is_told_what_is_on_file(agent: str) -> None:
    """Read the difference; if it is meant, `python -m tests.prompts.record` puts it on file."""
    assert told(agent) == SNAPSHOTS.joinpath(f"{agent}.md").read_text(encoding="utf-8")
