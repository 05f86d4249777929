import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from adapters.temporal.converter import DATA_CONVERTER
from tests.histories.record import SCENARIOS, length
from tests.plans import PIPELINES
from worker import WORKFLOWS

HOUSE = Path(__file__).parent.parent.parent
HISTORIES = sorted((HOUSE / "tests" / "histories").glob("*.json"))
MEANING = """
The workflow no longer does what it did when {name} was recorded, so every requirement that is
under way would stand still at its next task. Keep the order of its activities, timers and updates,
or branch with workflow.patched(). Only where nothing released can be running, record again:
tests/histories/record.py says how.
"""


@pytest.fixture(params=HISTORIES, ids=lambda path: path.stem)
def recorded(request: pytest.FixtureRequest) -> WorkflowHistory:
    path: Path = request.param
    return WorkflowHistory.from_json(path.stem, path.read_text())


async def test_recorded_history_still_replays(recorded: WorkflowHistory) -> None:
    history = replace(recorded, workflow_id=f"REQ-{recorded.workflow_id}")
    replayer = Replayer(workflows=WORKFLOWS, data_converter=DATA_CONVERTER)

    with length(SCENARIOS[re.sub(r"-\d+$", "", recorded.workflow_id)]):
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)

    meaning = MEANING.format(name=recorded.workflow_id)
    assert result.replay_failure is None, f"{meaning}\n{result.replay_failure}"


def test_every_shipped_pipeline_has_a_history() -> None:
    assert {path.stem for path in HISTORIES} >= {path.stem for path in PIPELINES.glob("*.toml")}


def test_every_scenario_has_a_history() -> None:
    assert {path.stem for path in HISTORIES} >= set(SCENARIOS)


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("held", '"hold"'),
        ("pre-empted", "stand_still"),
        ("reminder", '"remind"'),
        ("cancelled", "workflowExecutionCanceledEventAttributes"),
        ("rework", "REQUEST_CHANGES"),
        ("repair", "startChildWorkflowExecutionInitiatedEventAttributes"),
        ("continued", "continuedExecutionRunId"),
        ("conflict", "Fix merge Frontend Implementation"),
        ("infrastructure-2", "close_infrastructure"),
        ("sequential", '"sequential":true'),
    ],
)
def test_history_shows_what_it_was_recorded_for(name: str, sign: str) -> None:
    text = (HOUSE / "tests" / "histories" / f"{name}.json").read_text()
    payloads = b"".join(b64decode(data) for data in re.findall(r'"data": "([^"]+)"', text))

    assert sign in text or sign.encode() in payloads


def test_recorded_history_names_no_machine(recorded: WorkflowHistory) -> None:
    text = recorded.to_json()
    payloads = b"".join(b64decode(data) for data in re.findall(r'"data": "([^"]+)"', text))

    assert payloads
    assert set(re.findall(r'"identity": "([^"]*)"', text)) == {"recorder"}
    for place in (str(HOUSE), str(Path.home()), gettempdir()):
        assert place not in text
        assert place.encode() not in payloads
