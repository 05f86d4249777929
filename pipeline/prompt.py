"""The prompt of an agent: the task, what is upstream of it, and the notice it must end with.

Nothing in it can be read back as an answer, however an agent's program echoes it: it holds no
fence at all, results are told as lists instead of JSON, and whatever others have written stands
behind a mark at the beginning of each of its lines.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence

from pipeline.model import StageContext, StageRequest
from pipeline.team import FLAGS, TEAM, Role
from pipeline.transcript import shown

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
_FENCE = re.compile(r"`{3,}|~{3,}")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_OF_THE_HEADING = ("agent", "req_number")


def stage_prompt(request: StageRequest, context: StageContext, *, by_schema: bool = False) -> str:
    """Everything the agent is told, as Markdown.

    `by_schema` is for a program that asks for the answer by itself, in the form of a schema.
    """
    return "\n\n".join(_sections(request, context, by_schema=by_schema)) + "\n"


def answer_prompt(agent: str, number: str, refusal: str, *, by_schema: bool) -> str:
    """What an agent is told whose answer was missing or refused, in the session of its work."""
    form = _schema_format if by_schema else _notice_format
    asked = (
        f"Your work has ended, but your answer was not accepted:\n\n{_quoted(refusal, '> ', '> ')}"
        "\n\nDo not go on with the work. Only give the answer, as it has to be."
    )
    return f"{_FENCE.sub(' ', asked)}\n\n{form(agent, TEAM[agent].role, number)}\n"


def _sections(request: StageRequest, context: StageContext, *, by_schema: bool) -> Iterator[str]:
    agent = TEAM[request.stage.agent]
    yield f"# {request.ref.number}: {_line(context.title)}"
    yield (
        f"You are {agent.name}. Stage: {_line(request.stage.name)}. Priority: {request.priority}. "
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
    told = "\n\n".join(_told(context))
    if _FENCE.search(told):
        yield (
            "Below, the marks of code fences are written with spaces between them, so that no text "
            "of others can pass for your notice. In files, write them without."
        )
        told = _FENCE.sub(lambda fence: " ".join(fence[0]), told)
    if told:
        yield told
    if by_schema:
        yield _schema_format(agent.name, agent.role, request.ref.number)
    else:
        yield _notice_format(agent.name, agent.role, request.ref.number)


def _told(context: StageContext) -> Iterator[str]:
    """What people, agents and programs have written; here its fences still stand."""
    if context.description:
        yield f"## Requirement\n\n{_quoted(context.description, '> ', '> ')}"
    if context.earlier:
        yield f"## Your earlier result\n\n{_result(context.earlier)}"
    for title, texts in (
        ("Required fixes of the critique", context.required_fixes),
        ("Notes of the people in charge", context.notes),
        ("Failures to repair", context.failures),
        ("What was tried before", context.tried),
    ):
        if texts:
            yield f"## {title}\n\n" + "\n".join(_quoted(text, "- ", "  > ") for text in texts)
    for deliverable in context.deliverables:
        heading = f"## Result of {_line(deliverable.stage)} ({deliverable.agent})"
        yield f"{heading}\n\n{_result(deliverable.notice)}"


def _result(notice: str) -> str:
    """A notice as a list of its fields, which nobody can take for a notice."""
    try:
        fields = json.loads(notice)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return _quoted(notice, "> ", "> ")
    told = {key: value for key, value in fields.items() if key not in _OF_THE_HEADING}
    return "\n".join(_listed(told, ""))


def _listed(values: Mapping[str, object] | Sequence[object], indent: str) -> Iterator[str]:
    named = (
        [(f"{indent}- {_line(key)}:", value) for key, value in values.items()]
        if isinstance(values, Mapping)
        else [(f"{indent}-", value) for value in values]
    )
    for name, value in named:
        if isinstance(value, dict | list) and value:
            yield name
            yield from _listed(value, f"{indent}  ")
        elif isinstance(value, str):
            yield _quoted(value, f"{name} ", f"{indent}  > ")
        else:
            yield f"{name} {'none' if value in ([], {}, None) else json.dumps(value)}"


def _quoted(text: str, first: str, mark: str) -> str:
    """Text of others: `first` before its first line, a mark before every other one."""
    lines = (_CONTROL.sub("", line) for line in shown(text).strip().splitlines())
    return first + "\n".join(lines).replace("\n", f"\n{mark}")


def _line(text: str) -> str:
    return _FENCE.sub("'", _CONTROL.sub("", " ".join(shown(text).split())))


def _notice_format(agent: str, role: Role, number: str) -> str:
    example = {
        "agent": agent,
        "req_number": number,
        "status": "COMPLETE | BLOCKED | FAILED",
        "summary": "what you did, in one or two sentences",
        **_verdict_fields(role),
    }
    body = json.dumps(example, indent=2).replace("\n", "\n    ")
    text = (
        "## Completion notice\n\nEnd your output with one JSON object in a Markdown code fence: a "
        "line of three backticks and the word json, the object, a line of three backticks. Without "
        f"it your work does not count. This is its form:\n\n    {body}"
    )
    return text + _reason_for_no_change(role)


def _schema_format(agent: str, role: Role, number: str) -> str:
    """What the schema does not say by itself."""
    return (
        "## Completion notice\n\nEnd with your structured answer, once, when all work is done; "
        f"without it your work does not count. Its agent is {agent}, its req_number {number}. Give "
        "the status COMPLETE for what is done, BLOCKED if a human has to decide something, FAILED "
        "if it cannot be done, and null for what does not apply."
    ) + _reason_for_no_change(role)


def _reason_for_no_change(role: Role) -> str:
    if role is not Role.IMPLEMENTATION:
        return ""
    return (
        '\n\nOnly if nothing has to be changed: add "no_changes_needed" and say in it why. '
        "COMPLETE without a change and without this reason is refused."
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
