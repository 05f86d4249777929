"""Which deliverable answers which run."""

import json

import pytest
from pydantic import ValidationError

from adapters.remote.messages import Deliverable
from pipeline.remote_work import Correlation, OrderedRun, Received, Refusal, judged

RUN = "REQ-1/wf-1/Backend Implementation/1"
SUBJECT = "agog.agent.deliverables.roy.REQ-1"
ORDERED = Correlation(RUN, "roy", "REQ-1")


def of(run_id: str = RUN, agent: str = "roy", number: str = "REQ-1") -> Correlation:
    return Correlation(run_id, agent, number)


@pytest.mark.parametrize(
    ("subject", "named", "run", "refusal"),
    [
        (SUBJECT, of(), OrderedRun(ORDERED, False), None),
        # A redelivery of the one that was received, whatever has come of its run.
        (SUBJECT, of(), OrderedRun(ORDERED, False, "7"), None),
        (SUBJECT, of(), OrderedRun(ORDERED, True, "7"), None),
        (SUBJECT, None, None, Refusal.UNREADABLE),
        # The server holds an agent to its subjects: the subject is who it is.
        ("agog.agent.deliverables.jen.REQ-1", of(), OrderedRun(ORDERED, False), "wrong agent"),
        ("agog.agent.deliverables.roy.REQ-2", of(), None, "wrong requirement"),
        # One that says of itself what its subject says, about a run that is another one's.
        (
            "agog.agent.deliverables.jen.REQ-1",
            of(agent="jen"),
            OrderedRun(ORDERED, False),
            "wrong agent",
        ),
        (
            "agog.agent.deliverables.roy.REQ-2",
            of(number="REQ-2"),
            OrderedRun(ORDERED, False),
            "wrong requirement",
        ),
        (SUBJECT, of("REQ-1/wf-1/Backend Implementation/9"), None, Refusal.STALE),
        (SUBJECT, of(), OrderedRun(ORDERED, True), Refusal.STALE),
        (SUBJECT, of(), OrderedRun(ORDERED, False, "6"), Refusal.REPEATED),
    ],
)
def test_a_deliverable_is_refused_unless_its_run_waits_for_it(
    subject: str, named: Correlation | None, run: OrderedRun | None, refusal: str | None
) -> None:
    assert judged(Received("7", subject, named), run) == refusal


@pytest.mark.parametrize(
    "field",
    [
        {"costUsd": -1},
        {"costUsd": 1e300},
        {"usage": {"m": [1 << 60, 0, 0]}},
        {"usage": {"m": [-1, 0, 0]}},
        {"usage": {"m" * 300: [1, 0, 0]}},
        {"until": "2026-01-05T09:00:00"},
        {"ending": "excellent"},
        {"runId": "a\nb"},
        {"files": {"pieces": 1, "size": 3, "sha256": "../../etc"}},
    ],
)
def test_figures_that_no_run_can_have_are_unreadable(field: dict[str, object]) -> None:
    whole = {"runId": RUN, "agent": "roy", "reqNumber": "REQ-1", "until": "2026-01-05T09:00:00Z"}
    assert Deliverable.model_validate_json(json.dumps(whole)).until

    with pytest.raises(ValidationError):
        Deliverable.model_validate_json(json.dumps({**whole, **field}))
