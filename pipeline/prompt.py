"""The prompt of an agent: its template, filled with the task, what is upstream of it and its place.

Nothing in it can be read back as an answer, however an agent's program echoes it: it holds no
fence at all, results are told as lists instead of JSON, and whatever others have written stands
behind a mark at the beginning of each of its lines.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from string import Template
from types import MappingProxyType

from pipeline.agents_file import BuildCommand
from pipeline.errors import RefusedInput
from pipeline.handover import LIMITS, Handover
from pipeline.model import StageContext, StageRequest
from pipeline.notice import VERDICTS, Verdict
from pipeline.team import Agent, Role
from pipeline.transcript import shown

FRAME = "stage"
"""The template around that of a role."""
OTHER = "other"
"""The template of an agent with a role of its own, whose pipeline instructs it."""

NOTICE_LIMIT = 16_000
"""Characters of one result that a prompt holds: the longest of a whole team stay a small part of
what a model can read at once. The rest is handed on as a document."""

_FENCE = re.compile(r"`{3,}|~{3,}")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")
_OF_THE_HEADING = ("agent", "req_number")
_ROLE_FIELDS = ("number", "agent", "side", "stage")
"""What the template of a role may name; the frame may name what `_values` gives."""


@dataclass(frozen=True)
class Prompt:
    """What an agent is told, in both forms that an answer is asked for."""

    text: str
    by_schema: str
    """For a program that asks for the answer by itself, in the form of a schema."""


@dataclass(frozen=True)
class ProjectText:
    """What a project lays over a prompt, from a file of the commit that the stage starts at.

    `flaw` says why it is left out, `changed_since` is the commit since which an agent has changed
    it; empty if none has. Without a text and a flaw there is no such file.
    """

    file: str = ""
    text: str = ""
    flaw: str = ""
    changed_since: str = ""


@dataclass(frozen=True)
class Place:
    """Where an agent works, as its host knows it; everything may be missing.

    `handed` are the documents of other runs, by run id, `logs` those of failures and `results` the
    results that are too long for a prompt, by stage. `project` and `instructions` are what the
    project, and the people who run the host, lay over the template.
    """

    worktree: str = ""
    outbox: str = ""
    builds: Mapping[str, BuildCommand] = field(default_factory=dict)
    programs: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    project: ProjectText = ProjectText()
    instructions: tuple[str, ...] = ()
    handed: Mapping[str, Handover] = field(default_factory=dict)
    logs: Handover = field(default_factory=Handover)
    results: Mapping[str, str] = field(default_factory=dict)


class Templates:
    """The templates by name: the frame, one for each role, and those of single agents.

    A line of the frame that names a field without a value is left out, and so is a section, from
    one heading to the next, that names fields none of which has a value.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        """Check them. Raises: RefusedInput naming template, flaw and remedy."""
        for name in (FRAME, *Role, OTHER):
            if name not in texts:
                raise _refusal(name, "is missing")
        for name, text in texts.items():
            _check(name, text, _FRAME_FIELDS if name == FRAME else _ROLE_FIELDS)
        self.texts: Mapping[str, str] = MappingProxyType(dict(texts))

    def fill(self, agent: Agent, values: Mapping[str, str]) -> str:
        """The agent's whole prompt with those values.

        Raises: RefusedInput if its role has no template, and its pipeline does not instruct it.
        """
        text = self.texts.get(agent.name) or self.texts.get(agent.role)
        if text is None and not agent.instructions:
            raise _refusal(agent.role, "is missing")
        text = text or self.texts[OTHER]
        role = Template(text).substitute({name: values[name] for name in _ROLE_FIELDS})
        return _filled(self.texts[FRAME], {**values, "role": role.strip()})


def _refusal(name: str, flaw: str) -> RefusedInput:
    return RefusedInput(f"Prompt template {name}.md {flaw}. Restore it, or correct it.")


def _check(name: str, text: str, known: Sequence[str]) -> None:
    if not Template(text).is_valid():
        raise _refusal(name, "has a $ before something that is no field; $$ stands for a dollar")
    if _FENCE.search(text):
        raise _refusal(name, "holds a code fence, which could pass for an answer: indent instead")
    for found in Template(text).get_identifiers():
        if found not in known:
            fields = ", ".join(f"${each}" for each in known)
            raise _refusal(name, f"names the unknown field ${found}; known are {fields}")


def _filled(frame: str, values: Mapping[str, str]) -> str:
    kept: list[str] = []
    for section in _sections(frame):
        named = {line: names for line, names in section if names and not line.startswith("#")}
        empty = {line for line, names in named.items() if not all(map(values.get, names))}
        if not named or empty != named.keys():
            kept += [line for line, _ in section if line not in empty]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
    return f"{Template(text).substitute(values)}\n"


@lru_cache
def _sections(frame: str) -> Sequence[Sequence[tuple[str, Sequence[str]]]]:
    """The lines of each section, and what each names: the same for every stage of every run."""
    return [
        [(line, Template(line).get_identifiers()) for line in section.splitlines()]
        for section in re.split(r"^(?=#)", frame, flags=re.MULTILINE)
    ]


def stage_prompt(
    templates: Templates, request: StageRequest, context: StageContext, place: Place
) -> Prompt:
    """Everything the agent is told, as Markdown."""
    agent = request.stage.member
    told = _Told()
    instructed = replace(place, instructions=(agent.instructions, *place.instructions))
    others = _values_of_others(told, context, instructed)
    values = {**_own_values(request, context, place), **others}
    values["fence"] = "` ` `" if told.has_fence else ""

    def filled(ending: Callable[[Agent, str], str]) -> str:
        return templates.fill(agent, {**values, "ending": ending(agent, request.ref.number)})

    return Prompt(filled(_notice_format), filled(_schema_format))


_SAID_LENGTH = 1000


def answer_prompt(agent: Agent, number: str, refusal: str, *, by_schema: bool) -> str:
    """What an agent is told whose answer was missing or refused, in the session of its work."""
    form = _schema_format if by_schema else _notice_format
    asked = (
        f"Your work has ended, but your answer was not accepted:\n\n{_quoted(refusal, '> ', '> ')}"
        "\n\nDo not go on with the work. Only give the answer, as it has to be."
    )
    heading = "## Completion notice"
    return f"{_FENCE.sub(' ', asked)}\n\n{heading}\n\n{form(agent, number)}\n"


def unprepared_prompt(said: str, prompt: str) -> str:
    """The prompt of an agent that starts elsewhere in a clone which could not be prepared."""
    return (
        f"Your clone could not be prepared on this machine: {_line(said)[:_SAID_LENGTH]}\n"
        "Mend that if it is yours to mend; else do without, and say so in your summary.\n\n"
        f"{prompt}"
    )


def resume_prompt(agent: Agent, number: str, why: str, *, by_schema: bool) -> str:
    """What an agent is told whose program was cut off, when its session goes on in its clone."""
    form = _schema_format if by_schema else _notice_format
    told = (
        f"{why} Go on where you stopped: your task is the same, and every file is as you left it. "
        "Your last command may have been cut off half-way, or may not be in this conversation at "
        "all: see what it has done before you run it again, and whether anything that it had "
        "started still has to be started."
    )
    return f"{told}\n\n## Completion notice\n\n{form(agent, number)}\n"


def copied_session_prompt(directory: str, prompt: str) -> str:
    """The prompt of a fix that begins with a copy of the session of the work that it repairs."""
    return (
        "What stands above is your own earlier work. Others have worked since: look at the files "
        "again before you rely on them. You have a new task and a new working directory, "
        f"{_line(directory)}. The earlier one is gone: use none of its paths any more.\n\n{prompt}"
    )


def _own_values(request: StageRequest, context: StageContext, place: Place) -> dict[str, str]:
    """What we say ourselves, each on one line; a title or path is cleaned."""
    agent = request.stage.member
    project = place.project
    deploys_beside = request.staging_only and agent.role == Role.DEVOPS
    return {
        "number": request.ref.number,
        "title": _line(context.title),
        "agent": agent.name,
        "stage": _line(request.stage.name),
        "priority": str(request.priority),
        "attempt": str(request.attempt),
        "side": str(agent.side or ""),
        "beside": ", ".join(agent.beside),
        "time": _duration(request.stage.deadline.total_seconds()),
        "outbox": _line(place.outbox),
        "outbox_limits": LIMITS,
        "worktree": _line(place.worktree),
        "commit": request.head.commit if request.head else "",
        "directories": "\n".join(_directories(request, context, place.builds)),
        "programs": _line(", ".join(place.programs)),
        "missing": _line(", ".join(place.missing)),
        "repairs": context.repairs,
        "staging": "staging" if deploys_beside else "",
        "project_file": _line(project.file) if project.text or project.flaw else "",
        "project_flaw": _line(project.flaw),
        "changed_since": project.changed_since if project.text else "",
    }


class _Told:
    """Renders what people, agents and programs have written, without fences."""

    def __init__(self) -> None:
        self.has_fence = False

    def unfenced(self, text: str) -> str:
        """The text with spaces between the marks of its fences."""
        self.has_fence = self.has_fence or _FENCE.search(text) is not None
        return _FENCE.sub(lambda fence: " ".join(fence[0]), text)

    def quoted(self, text: str) -> str:
        """A text behind marks; empty if there is none."""
        return self.unfenced(_quoted(text, "> ", "> ")) if text.strip() else ""

    def listed(self, texts: Iterable[str]) -> str:
        """A list of texts, each behind marks from its second line on."""
        return self.unfenced("\n".join(_quoted(text, "- ", "  > ") for text in texts))


def _values_of_others(told: _Told, context: StageContext, place: Place) -> dict[str, str]:
    instructions = "\n\n".join(text.strip() for text in place.instructions if text.strip())
    results = (
        f"### Result of {_line(each.stage)} ({each.agent})\n\n"
        + _bounded(told.unfenced(result_text(each.notice)), place.results.get(each.stage, ""))
        for each in context.deliverables
    )
    return {
        "requirement": told.quoted(context.description),
        "project": told.quoted(place.project.text),
        "instructions": told.quoted(instructions),
        "earlier": told.unfenced(result_text(context.earlier)) if context.earlier else "",
        "required_fixes": told.listed(context.required_fixes),
        "notes": told.listed(context.notes),
        "failures": told.listed(context.failures),
        "logs": "\n".join(_documents(place.logs)),
        "tried": told.listed(context.tried),
        "results": "\n\n".join(results),
        "documents": "\n\n".join(_handed(context, place)),
    }


def _bounded(result: str, document: str) -> str:
    """A long result up to a whole line, with the document that holds all of it."""
    if len(result) <= NOTICE_LIMIT:
        return result
    begin = result[:NOTICE_LIMIT].rpartition("\n")[0] or result[:NOTICE_LIMIT]
    return f"{begin}\n\nThis is its beginning" + (
        f"; the whole is in `{_line(document)}`." if document else "."
    )


def _handed(context: StageContext, place: Place) -> Iterator[str]:
    for run in context.handed:
        documents = "\n".join(_documents(place.handed.get(run.run_id, Handover())))
        if documents:
            yield f"From {_line(run.whose)}:\n\n{documents}"


def _documents(handover: Handover) -> Iterator[str]:
    for document in handover.documents:
        yield f"- `{_line(document.path)}` ({document.size:,} bytes){_line(document.remark)}"
    for remark in handover.remarks:
        yield f"- {_line(remark)}"


def _directories(
    request: StageRequest, context: StageContext, builds: Mapping[str, BuildCommand]
) -> Iterator[str]:
    """Each build of the plan with its directory, its commands and who answers for it."""
    for name, owner in context.owners.items():
        if (build := builds.get(name)) is None:
            continue
        place = "the whole clone" if build.directory == "." else f"`{_line(build.directory)}/`"
        prepared = f", prepared with `{_line(shlex.join(build.prepare))}`" if build.prepare else ""
        whose = "You answer" if owner == request.stage.agent else f"{owner} answers"
        command = _line(shlex.join(build.command))
        yield f"- {name}: {place}; its build is `{command}`{prepared}. {whose} for it."


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{seconds:.0f} seconds"


def result_text(notice: str) -> str:
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


def _notice_format(agent: Agent, number: str) -> str:
    example = {
        "agent": agent.name,
        "req_number": number,
        "status": "COMPLETE | BLOCKED | FAILED",
        "summary": "what you did, in one or two sentences",
        **_verdict_fields(agent),
    }
    body = json.dumps(example, indent=2).replace("\n", "\n    ")
    text = (
        "End your output with one JSON object in a Markdown code fence: a "
        "line of three backticks and the word json, the object, a line of three backticks. Without "
        f"it your work does not count. This is its form:\n\n    {body}"
    )
    return text + _reason_for_no_change(agent)


def _schema_format(agent: Agent, number: str) -> str:
    """What the schema does not say by itself."""
    return (
        "End with your structured answer, once, when all work is done; "
        f"without it your work does not count. Its agent is {agent.name}, its req_number {number}. "
        "Give the status COMPLETE for what is done, BLOCKED if a human has to decide something, "
        "FAILED if it cannot be done, and null for what does not apply."
    ) + _reason_for_no_change(agent)


def _reason_for_no_change(agent: Agent) -> str:
    if agent.role != Role.IMPLEMENTATION:
        return ""
    return (
        '\n\nOnly if nothing has to be changed: add "no_changes_needed" and say in it why. '
        "COMPLETE without a change and without this reason is refused."
    )


def _verdict_fields(agent: Agent) -> dict[str, object]:
    verdict = VERDICTS.get(agent.role)
    told: dict[str, object] = {"changes": {}, "deliverable": ""}
    if verdict is Verdict.CRITIQUE:
        verdicts = "APPROVED | APPROVED_WITH_CONDITIONS | REQUEST_CHANGES | ESCALATE"
        told = {verdict: verdicts, "required_fixes": [], "reasons": []}
    elif verdict:
        told = {verdict: "PASS | FAIL", "failures": []}
    if agent.owner_words:
        told["owner"] = " | ".join(agent.owner_words)
    return {**told, **dict.fromkeys(agent.raises, False)}


_FRAME_FIELDS = (
    *("number", "title", "agent", "stage", "priority", "attempt", "role", "side", "time"),
    *("beside", "outbox", "outbox_limits", "worktree", "commit", "directories", "programs"),
    *("missing", "repairs", "staging", "fence", "requirement", "project_file", "project_flaw"),
    *("changed_since", "project", "instructions", "earlier", "required_fixes", "notes"),
    *("failures", "logs", "tried", "results", "documents", "ending"),
)
