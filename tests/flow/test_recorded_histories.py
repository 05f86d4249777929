import re
from base64 import b64decode
from dataclasses import replace
from pathlib import Path
from tempfile import gettempdir

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer

from adapters.temporal.client import DATA_CONVERTER
from tests.histories.commands import possible, recorded_in
from tests.histories.record import SCENARIOS, as_recorded
from tests.plans import PIPELINES
from worker import WORKFLOWS

HOUSE = Path(__file__).parent.parent.parent
HISTORIES = sorted((HOUSE / "tests" / "histories").glob("*.json"))
SERVER = "history-service"
"""Who asks a child to end, or tells of its end, whose parent was ended."""
MEANING = """
The workflow no longer does what it did when {name} was recorded, so every requirement that is
under way would get stuck at its next task. Keep the order of its activities, timers and updates,
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

    with as_recorded(SCENARIOS[re.sub(r"-\d+$", "", recorded.workflow_id)]):
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)

    meaning = MEANING.format(name=recorded.workflow_id)
    assert result.replay_failure is None, f"{meaning}\n{result.replay_failure}"


def test_every_shipped_pipeline_has_a_history() -> None:
    assert {path.stem for path in HISTORIES} >= {path.stem for path in PIPELINES.glob("*.toml")}


def test_every_scenario_has_a_history() -> None:
    assert {path.stem for path in HISTORIES} >= set(SCENARIOS)


def test_every_command_and_message_of_a_workflow_is_in_a_history() -> None:
    """Only what is recorded is compared: an edit of anything else would pass unseen."""
    found = {each for path in HISTORIES for each in recorded_in(path.read_text())}
    written = possible()

    missing = written - found
    assert not missing, f"Record a scenario with {sorted(missing)}: tests/histories/record.py."
    assert not found - written, "what is recorded was not found in the code of workflows"


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("held", '"hold"'),
        ("limited", '"account":"claude-code"'),
        ("pre-empted", "apply_preemption"),
        ("reminder", '"remind"'),
        ("cancelled", "workflowExecutionCanceledEventAttributes"),
        ("rework", "REQUEST_CHANGES"),
        ("repair", "startChildWorkflowExecutionInitiatedEventAttributes"),
        ("continued", "continuedExecutionRunId"),
        ("conflict", "Fix merge Frontend Implementation"),
        ("infrastructure-2", "close_infrastructure"),
        ("sequential", '"sequential":true'),
        ("cancelled-repair", "requestCancelExternalWorkflowExecutionInitiatedEventAttributes"),
        ("lost-repair", "childWorkflowExecutionTerminatedEventAttributes"),
        ("held-repair-1", '"hold"'),
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
    identities = set(re.findall(r'"identity": "([^"]*)"', text)) - {SERVER}
    assert identities == {"recorder"}
    for place in (str(HOUSE), str(Path.home()), gettempdir()):
        assert place not in text
        assert place.encode() not in payloads
