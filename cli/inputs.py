"""A requirement as a user gives it: by options, as a Markdown file, as a line of a backlog.

Pure: text in, a checked `Submission` or a refusal with its reason out.
"""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from cli.pipelines import DEFAULT_PIPELINE
from pipeline.errors import RefusedInput
from pipeline.model import Priority
from pipeline.numbers import check_number
from settings import problems_of

TITLE_LENGTH = 500
DESCRIPTION_LENGTH = 200_000
PRIORITY = Priority.P2

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_NUMBERED = re.compile(r"(REQ-[A-Za-z0-9-]+)(?::[ \t]*|[ \t]+)(.+)")


@dataclass(frozen=True)
class Submission:
    """What one requirement is to be; `pipeline` is a name or a file."""

    number: str
    title: str
    description: str = ""
    priority: Priority = PRIORITY
    pipeline: str = DEFAULT_PIPELINE
    sequential: bool = False
    blocked_by: tuple[str, ...] = ()
    preempt: bool = False


def check_submission(submission: Submission) -> Submission:
    """The submission, unchanged. Raises: RefusedInput with the reason."""
    for number in (submission.number, *submission.blocked_by):
        check_number(number)
    if submission.preempt and submission.priority is not Priority.P0:
        raise RefusedInput(
            f"{submission.number} is {submission.priority}: only a P0 pre-empts what runs."
        )
    check_title(submission.title)
    check_description(submission.description)
    return submission


def read_numbers(text: str) -> tuple[str, ...]:
    """The numbers of a list like `REQ-1,REQ-2`. Raises: RefusedInput if there is none."""
    numbers = tuple(filter(None, map(str.strip, text.split(","))))
    if not numbers:
        raise RefusedInput(f"--blocked-by {text!r} names nobody: give numbers like REQ-1,REQ-2.")
    return numbers


def check_title(title: str) -> None:
    """Let a title pass that fits one line of a table. Raises: RefusedInput with the reason."""
    if len(title) > TITLE_LENGTH:
        raise RefusedInput(f"Title of {len(title)} characters: at most {TITLE_LENGTH}.")
    if not title.strip():
        raise RefusedInput("The title is empty: say in one line what is required.")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in title):
        raise RefusedInput("The title holds a line break or control character: one line of text.")


def check_description(description: str) -> None:
    """Let a description pass that can be stored. Raises: RefusedInput with the reason."""
    if len(description) > DESCRIPTION_LENGTH:
        raise RefusedInput(
            f"Description of {len(description)} characters: at most {DESCRIPTION_LENGTH}."
        )
    if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in description):
        raise RefusedInput("The description holds characters that are not text (null bytes?).")


def read_requirement(text: str, source: str) -> tuple[str, str]:
    """Title and description of a Markdown text: its first heading, and all that follows it.

    Raises: RefusedInput if there is no heading.
    """
    lines = text.splitlines()
    is_code = False
    for position, line in enumerate(lines):
        if _FENCE.match(line):
            is_code = not is_code
        if (heading := _HEADING.fullmatch(line)) and not is_code:
            return heading[1].strip(), "\n".join(lines[position + 1 :]).strip()
    raise RefusedInput(f"{source} has no heading: its title is the first line like `# Title`.")


def number_and_title(heading: str) -> tuple[str, str]:
    """The two halves of a heading like `REQ-101: Title`.

    Raises: RefusedInput if it does not begin with a number.
    """
    if found := _NUMBERED.fullmatch(heading):
        return found[1], found[2]
    raise RefusedInput(
        "A number is missing: give one like REQ-101, begin the file's heading with one"
        " (`# REQ-101: Title`), or give --batch."
    )


def read_backlog(
    text: str, source: str, check: Callable[[Submission], object]
) -> tuple[Submission, ...]:
    """One submission a line, each passed by `check`; empty lines are left out.

    Raises: RefusedInput that names every bad line with its reason.
    """
    submissions: list[Submission] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for place, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            submission = _submission(line)
            check(submission)
            twin = seen.setdefault(submission.number.lower(), place)
            if twin != place:
                raise RefusedInput(f"{submission.number} stands in line {twin} already.")
        except RefusedInput as refusal:
            problems.append(f"line {place}: {refusal}")
        else:
            submissions.append(submission)
    if not submissions and not problems:
        problems.append("it holds no requirement.")
    if problems:
        raise RefusedInput(f"{source}: nothing was started.\n" + "\n".join(problems))
    return tuple(submissions)


class _Line(BaseModel):
    """A line of a backlog: the names of the options as keys; `req_number` as we print it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    req: str = Field(validation_alias=AliasChoices("req", "req_number"))
    title: str
    description: str = ""
    priority: Priority = PRIORITY
    pipeline: str = DEFAULT_PIPELINE
    sequential: bool = False
    blocked_by: tuple[str, ...] = ()
    preempt: bool = False


def _submission(line: str) -> Submission:
    try:
        entry = _Line.model_validate_json(line)
    except ValidationError as refusal:
        raise RefusedInput(f"{problems_of(refusal)}.") from refusal
    return Submission(
        entry.req,
        entry.title,
        entry.description,
        entry.priority,
        entry.pipeline,
        entry.sequential,
        entry.blocked_by,
        entry.preempt,
    )
