from pipeline.model import Deliverable, Head, Priority, RequirementRef, StageContext, StageRequest
from pipeline.prompt import stage_prompt
from tests.plans import shipped


def a_prompt(stage: str, context: StageContext, *, staging_only: bool = False) -> str:
    request = StageRequest(
        RequirementRef("REQ-7", "run"),
        Priority.P1,
        shipped("standard").stage(stage),
        2,
        Head("c0ffee", 3),
        10.0,
        staging_only=staging_only,
    )
    return stage_prompt(request, context)


def test_agent_is_told_everything_it_needs() -> None:
    context = StageContext(
        "Invoices",
        "Print them twice.",
        (Deliverable("Research", "cynthia", '{"summary": "two files"}'),),
        ("Check the tax",),
        ("Mind the deadline",),
        ("build backend: error TS2345",),
    )
    prompt = a_prompt("Backend Implementation", context)

    for told in (
        "REQ-7: Invoices",
        "Print them twice.",
        "Priority: P1",
        "Attempt: 2",
        "c0ffee",
        '{"summary": "two files"}',
        "- Check the tax",
        "- Mind the deadline",
        "- build backend: error TS2345",
    ):
        assert told in prompt


def test_every_agent_is_shown_the_verdict_that_it_owes() -> None:
    owed = {"sylvia": "critique_verdict", "billy": "needs_todd", "vic": "test_result"}
    for stage in shipped("standard").stages:
        prompt = a_prompt(stage.name, StageContext("T", "D"))
        assert f'"agent": "{stage.agent}"' in prompt
        assert owed.get(stage.agent, "summary") in prompt


def test_deployment_beside_other_work_is_told_to_stay_on_staging() -> None:
    context = StageContext("T", "D")

    assert "staging only" in a_prompt("DevOps Deployment", context, staging_only=True)
    assert "staging only" not in a_prompt("DevOps Deployment", context)
