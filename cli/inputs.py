"""What a user gives: a requirement, a backlog, a pipeline, a stage; checked, or refused and why."""

import os
import pwd
import re
import shlex
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from adapters.git.project import Project
from adapters.health_probe import living_worker
from adapters.sdlc.views import ListedRequirement, RequirementView
from adapters.user_files import read_text
from cli import output
from pipeline.errors import OtherProject, ProjectRefused, RefusedInput, UnknownRequirement
from pipeline.model import Pipeline, Priority, ProjectId
from pipeline.numbers import check_number, slug
from pipeline.pauses import ALL
from pipeline.plan_file import MONEY_LIMIT, read_pipeline
from settings import HERE, PROMPTS, Settings, problems_of, process_environment

TITLE_LENGTH = 500
DESCRIPTION_LENGTH = 200_000
PRIORITY = Priority.P2

PIPELINE_HELP = "Name, or path of a .toml file; default: AGOG_PIPELINE."
TARGET_HELP = "Branch to deliver to; default: the one that is checked out."
BUDGET_HELP = "Dollars, its fixes included; default: usd in the pipeline's bounds."
PIPELINES = HERE / "pipelines"
PLAN_BYTES = 64 * 1024
"""A plan travels in the workflow's input (design, section 7)."""

_NAME_LENGTH = 60
"""Of a number made from a file's name: a count may follow it."""

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(.*?)(?:[ \t]+#+)?[ \t]*")
_FENCE = re.compile(r" {0,3}(```|~~~)")
_NUMBERED = re.compile(r"(REQ-[A-Za-z0-9-]+)(?::[ \t]*|[ \t]+)(.+)")


def repository_here() -> Path | None:
    """The git repository that the current directory is in."""
    here = Path.cwd()
    return next((place for place in (here, *here.parents) if (place / ".git").exists()), None)


def other_repository(settings: Settings) -> Path | None:
    """The repository here, if `.env` names another one as the project.

    PROJECT_ROOT in the environment of the command is no mistake, nor is our own tree.
    """
    here, project = repository_here(), settings.project_root
    if here is None or project is None or process_environment().get("PROJECT_ROOT"):
        return None
    return None if here in (HERE, project.expanduser().resolve()) else here


async def identify_project(settings: Settings) -> ProjectId:
    """The project of a new requirement.

    Raises: ProjectRefused without one; OtherProject if the worker here works on another one.
    """
    root = settings.project_root
    if root is None:
        raise ProjectRefused("PROJECT_ROOT is not set: set it to the project.")
    project = await Project(root).identify()
    worker = living_worker(settings.home)
    theirs = worker["project"] if worker else ""
    if theirs and theirs != project.path:
        raise OtherProject(
            f"The worker here works on {theirs}, and PROJECT_ROOT is {project.path}: nothing was"
            f" started. Use PROJECT_ROOT={shlex.quote(theirs)}, or let a worker with the other one"
            " take its place."
        )
    return project


def other_project(settings: Settings, view: RequirementView | ListedRequirement) -> str:
    """The project of a requirement, if it is not that of the settings; else empty."""
    root = settings.project_root
    here = str(root.expanduser().resolve()) if root else ""
    return view.project if here and view.project != here else ""


def check_same_project(settings: Settings, view: RequirementView) -> None:
    """Raises: OtherProject if the requirement was started for another one than the settings'."""
    if theirs := other_project(settings, view):
        raise OtherProject(
            f"{view.number} was started for {theirs}, and PROJECT_ROOT is {settings.project_root}."
            f" Use PROJECT_ROOT={shlex.quote(theirs)}."
        )


def say_other_project(settings: Settings) -> None:
    """Say which project it is about, to somebody who stands in another one."""
    if here := other_repository(settings):
        output.say(
            f"The project is {settings.project_root}, as .env says, and not {here}:"
            " `init --force` here would change that."
        )


def who() -> str:
    """The user's name; in a container the user may be a number without a name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


@dataclass(frozen=True)
class Submission:
    """One requirement to start; `pipeline` is a name or a file, empty for the usual one."""

    number: str
    title: str
    description: str = ""
    priority: Priority = PRIORITY
    pipeline: str = ""
    sequential: bool = False
    blocked_by: tuple[str, ...] = ()
    preempt: bool = False
    budget: float | None = None
    target: str = ""


def check_submission(submission: Submission) -> Submission:
    """The submission, unchanged. Raises: RefusedInput with the reason."""
    for number in (submission.number, *submission.blocked_by):
        check_number(number)
    if submission.preempt and submission.priority is not Priority.P0:
        raise RefusedInput(
            f"{submission.number} is {submission.priority}: only a P0 pre-empts what runs."
        )
    check_dollars("--budget", submission.budget)
    _check_title(submission.title)
    _check_description(submission.description)
    return submission


def one_or_all(req: str | None, *, everything: bool) -> str:
    """The number that is meant, or `ALL`. Raises: RefusedInput."""
    if (req is None) != everything:
        raise RefusedInput("Name one requirement, or --all: not both, not neither.")
    return ALL if req is None else check_number(req)


def check_dollars(option: str, usd: float | None) -> None:
    """Refuse what is no amount of money; None is none. Raises: RefusedInput."""
    if usd is not None and not 0 < usd <= MONEY_LIMIT:
        raise RefusedInput(f"{option} {usd:g}: give dollars, above zero and up to {MONEY_LIMIT:g}.")


def read_numbers(text: str) -> tuple[str, ...]:
    """The numbers in a list like `REQ-1,REQ-2`. Raises: RefusedInput if it is empty."""
    numbers = tuple(filter(None, map(str.strip, text.split(","))))
    if not numbers:
        raise RefusedInput(
            f"--blocked-by {text!r} names no requirement: give numbers like REQ-1,REQ-2."
        )
    return numbers


def _check_title(title: str) -> None:
    """Refuse a title that does not fit one line of a table. Raises: RefusedInput."""
    if len(title) > TITLE_LENGTH:
        raise RefusedInput(f"Title of {len(title)} characters: at most {TITLE_LENGTH}.")
    if not title.strip():
        raise RefusedInput("The title is empty: say in one line what is required.")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in title):
        raise RefusedInput("The title holds a line break or control character: one line of text.")


def _check_description(description: str) -> None:
    """Refuse a description that cannot be stored. Raises: RefusedInput."""
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


def read_task(text: str, source: str) -> tuple[str, str]:
    """Title and description of a text: its first line, a heading or not, and all that follows.

    Raises: RefusedInput if there is none.
    """
    lines = text.strip().splitlines()
    if not lines:
        raise RefusedInput(f"{source} is empty: its first line is the title.")
    heading = _HEADING.fullmatch(lines[0])
    return (heading[1] if heading else lines[0]).strip(), "\n".join(lines[1:]).strip()


def number_of_file(path: Path) -> str:
    """The number that a file's name stands for: `login-page.md` is REQ-login-page."""
    name = re.sub(r"^req-", "", slug(path.stem)) or "requirement"
    # The last hyphen would make it a fix, which only the orchestrator opens.
    return f"REQ-{re.sub(r'-fix-(?=[0-9]+$)', '-fix', name)[:_NAME_LENGTH].strip('-')}"


def number_and_title(req: str | None, heading: str, source: str) -> tuple[str | None, str]:
    """The number that is given, or stands in a heading like `REQ-101: Title`; and the title.

    Raises: RefusedInput if two different ones are.
    """
    found = _NUMBERED.fullmatch(heading)
    if found is None:
        return req, heading
    if req is not None and req != found[1]:
        raise RefusedInput(
            f"{source} is {found[1]}, by its heading, and not {req}: correct one, or leave it out."
        )
    return found[1], found[2]


def read_backlog(
    text: str, source: str, check: Callable[[Submission], object]
) -> tuple[Submission, ...]:
    """One submission for each line that is not empty; `check` may refuse a submission.

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
                raise RefusedInput(f"{submission.number} is already in line {twin}.")
        except RefusedInput as refusal:
            problems.append(f"line {place}: {refusal}")
        else:
            submissions.append(submission)
    if not submissions and not problems:
        problems.append("it holds no requirement.")
    if problems:
        raise RefusedInput(f"{source}: nothing was started.\n" + "\n".join(problems))
    return tuple(submissions)


def known_pipelines() -> tuple[str, ...]:
    """Names of the pipelines that come with the program."""
    return tuple(sorted(path.stem for path in PIPELINES.glob("*.toml")))


def pipelines_here(settings: Settings) -> tuple[Pipeline, ...]:
    """The pipelines that come with the program, and the usual one unless `doctor` must name it."""
    shipped = tuple(map(find_pipeline, known_pipelines()))
    try:
        return (*shipped, find_pipeline(settings.pipeline))
    except RefusedInput:
        return shipped


def find_pipeline(name_or_file: str) -> Pipeline:
    """A pipeline by its name, or from a file. Raises: RefusedInput."""
    known = known_pipelines()
    if name_or_file in known:
        path = PIPELINES / f"{name_or_file}.toml"
    elif "/" in name_or_file or name_or_file.endswith(".toml"):
        path = Path(name_or_file)
    else:
        raise RefusedInput(
            f"Unknown pipeline {name_or_file[:80]!r}. Known: {', '.join(known)};"
            " or give the path of a .toml file."
        )
    templates = {template.stem for template in PROMPTS.glob("*.md")}
    return read_pipeline(read_text(path, "Pipeline file", PLAN_BYTES), str(path), templates)


def stage_name(view: RequirementView, said: str) -> str:
    """The stage that a user means by any spelling of its name, or by its agent's name.

    Raises: UnknownRequirement if there is none.
    """
    for stage in view.stages:
        if said == stage.stage or slug(said) in (slug(stage.stage), stage.agent):
            return stage.stage
    if not view.stages:
        raise UnknownRequirement(f"{view.number} has no stages.")
    names = ", ".join(stage.stage for stage in view.stages)
    raise UnknownRequirement(f"{view.number} has no stage {said[:80]!r}. Stages: {names}.")


class _Line(BaseModel):
    """A line of a backlog. Its keys are the options' names; `req_number` is what we print."""

    model_config = ConfigDict(extra="forbid", strict=True)

    req: str = Field(validation_alias=AliasChoices("req", "req_number"))
    title: str
    description: str = ""
    priority: Priority = PRIORITY
    pipeline: str = ""
    sequential: bool = False
    blocked_by: tuple[str, ...] = ()
    preempt: bool = False
    target: str = ""


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
        target=entry.target,
    )
