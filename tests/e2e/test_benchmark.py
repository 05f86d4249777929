"""The benchmark measures every contender on servers of its own, whatever the environment says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_small_round_measures_every_contender() -> None:
    size = ("--rounds", "1", "--crowd", "2", "--rush", "4", "--side-by-side", "2")

    run = subprocess.run(
        [sys.executable, "-m", "bench", "--json", *size],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    measured = {(sample["contender"], sample["batch"]) for sample in document["samples"]}
    assert len(measured) == 9  # three contenders, three batches
    events = next(each for each in document["figures"] if each["key"] == "history_events")
    assert events["is_met"]
    sides = {each["side_by_side"]: each["milliseconds"] for each in document["boundaries"]}
    assert {count: len(each) for count, each in sides.items()} == {1: 8, 2: 16}
    assert all(document["versions"].values())
