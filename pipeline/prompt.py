"""The prompt of an agent: the task, what is upstream of it, and the notice it must end with."""

import json
from collections.abc import Iterator

from pipeline.model import StageContext, StageRequest
from pipeline.team import FLAGS, TEAM, Role

_DUTIES = {
    Role.RESEARCH: "Research the requirement and the code base. Write down what must be done.",
    Role.CRITIQUE: "Review the research. Decide whether implementation may start.",
    Role.IMPLEMENTATION: "Implement your side. Its build is run on the merged result after you.",
    Role.QA: "Test your side. Say PASS only for what you saw working.",
    Role.SPECIALIST: "Test what you were called for. Say PASS only for what you saw working.",
    Role.STATISTICS: "Measure the quality of the result.",
    Role.DEVOPS: "Deploy exactly the commit that is checked out here.",
    Role.DOCUMENTATION: "Bring the documentation up to date.",
}


def stage_prompt(request: StageRequest, context: StageContext) -> str:
    """Everything the agent is told, as Markdown."""
    return "\n\n".join(_sections(request, context)) + "\n"


def _sections(request: StageRequest, context: StageContext) -> Iterator[str]:
    agent = TEAM[request.stage.agent]
    yield f"# {request.ref.number}: {context.title}"
    yield (
        f"You are {agent.name}. Stage: {request.stage.name}. Priority: {request.priority}. "
        f"Attempt: {request.attempt}.\n{_DUTIES[agent.role]}"
    )
    if request.head:
        yield f"Your working directory is a git clone of your own at {request.head.commit}."
    if context.repairs:
        yield (
            f"This is a fix for {context.repairs}, whose merged work you find here. See to the "
            "failure below and to nothing else: what is green must stay green."
        )
    if request.staging_only:
        yield "Deploy to staging only: the quality measurement is still running."
    if context.description:
        yield f"## Requirement\n\n{context.description}"
    if context.earlier:
        yield f"## Your earlier result\n\n```json\n{context.earlier}\n```"
    yield from _lists(context)
    for deliverable in context.deliverables:
        yield (
            f"## Result of {deliverable.stage} ({deliverable.agent})\n\n"
            f"```json\n{deliverable.notice}\n```"
        )
    yield _notice_format(agent.name, agent.role, request.ref.number)


def _lists(context: StageContext) -> Iterator[str]:
    for title, lines in (
        ("Required fixes of the critique", context.required_fixes),
        ("Notes of the people in charge", context.notes),
        ("Failures to repair", context.failures),
        ("What was tried before", context.tried),
    ):
        if lines:
            yield f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines)


def _notice_format(agent: str, role: Role, number: str) -> str:
    example = {
        "agent": agent,
        "req_number": number,
        "status": "COMPLETE | BLOCKED | FAILED",
        "summary": "what you did, in one or two sentences",
        **_verdict_fields(role),
    }
    body = json.dumps(example, indent=2)
    return (
        "## Completion notice\n\nEnd your output with one fenced JSON object of this form; "
        f"without it your work does not count:\n\n```json\n{body}\n```"
    )


def _verdict_fields(role: Role) -> dict[str, object]:
    if role is Role.CRITIQUE:
        verdicts = "APPROVED | APPROVED_WITH_CONDITIONS | REQUEST_CHANGES | ESCALATE"
        return {"critique_verdict": verdicts, "required_fixes": [], "reasons": []}
    if role is Role.QA:
        flags = dict.fromkeys(FLAGS, False)
        return {"test_result": "PASS | FAIL", "failures": [], **flags}
    if role is Role.SPECIALIST:
        return {"test_result": "PASS | FAIL", "failures": [], "owner": "backend | frontend"}
    if role is Role.STATISTICS:
        return {"overall": "PASS | FAIL", "failures": [], "owner": "backend | frontend"}
    return {"changes": {}, "deliverable": ""}
