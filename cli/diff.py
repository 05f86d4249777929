"""`diff`, and what a delivered requirement brought: its commits, files, time and cost.

The store of a project keeps each integration branch, and the target's commit that its work stands
on. What lies between is the requirement's own, whoever else has delivered meanwhile.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from adapters.git.command import Git
from adapters.git.store import Names, store_path
from adapters.sdlc.reader import SdlcReader
from adapters.sdlc.views import PerformanceView, RequirementView, RunView
from cli import output
from cli.connections import records
from cli.inputs import check_same_project, stage_name
from cli.running import Number, load_settings, run
from pipeline.costs import amount
from pipeline.errors import RefusedInput, UnknownRequirement
from pipeline.model import RequirementState
from pipeline.numbers import stage_branch
from settings import Settings

EXAMPLES = {
    "diff": """
Examples:

  python starter.py diff REQ-101

  python starter.py diff REQ-101 roy --stat
"""
}

SHOWN = ("--ignore-submodules=none", "--no-ext-diff", "--no-textconv", "--find-renames")
"""The submodules too; whatever the project's attributes name, no program runs."""
_SHORT = 7


def diff(
    req: Number,
    stage: Annotated[
        str | None,
        typer.Argument(help="Only this stage's latest attempt: its name, or its agent's."),
    ] = None,
    stat: Annotated[bool, typer.Option("--stat", help="Only the files, and how much.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document: files.")] = False,
) -> None:
    """Show what a requirement has changed, or one of its stages."""
    settings = load_settings()
    change = run(_find(settings, req, stage))
    if as_json:
        output.write_json(run(change.document()))
        return
    if change.base == change.head:
        output.say("Nothing was changed.")
    code = change.git.show("diff", *SHOWN, *(["--stat"] if stat else []), change.base, change.head)
    raise typer.Exit(code)


@dataclass(frozen=True)
class Change:
    """What lies between two commits of a project's store."""

    git: Git
    base: str
    head: str

    async def document(self) -> Mapping[str, object]:
        """The JSON of `diff`: a file that is no text has no lines."""
        return {"base": self.base, "head": self.head, "files": await self._files()}

    async def size(self) -> str:
        """How many files and lines have changed, in a few words."""
        files = await self._files()
        added = sum(int(str(each["added"] or 0)) for each in files)
        deleted = sum(int(str(each["deleted"] or 0)) for each in files)
        return f"{len(files)} {'file' if len(files) == 1 else 'files'}, +{added} −{deleted}"

    async def _files(self) -> list[dict[str, object]]:
        counted = await self.git.run(
            "diff", "--numstat", "-z", "--no-renames", *SHOWN[:-1], self.base, self.head
        )
        rows = (field.split("\t", 2) for field in counted.fields)
        return [
            {
                "path": path.encode("utf-8", "surrogateescape").decode("utf-8", "replace"),
                "added": None if added == "-" else int(added),
                "deleted": None if deleted == "-" else int(deleted),
            }
            for added, deleted, path in rows
        ]


async def _find(settings: Settings, number: str, stage: str | None) -> Change:
    """The change that is asked for.

    Raises: UnknownRequirement, RefusedInput without PROJECT_ROOT.
    """
    async with records(settings) as reader:
        view = await reader.requirement(number)
        if not stage:
            return await whole_change(settings, view)
        name = stage_name(view, stage)
        runs = [each for each in await reader.runs(number) if each.stage == name]
    if not runs:
        raise UnknownRequirement(f"{name} of {number} has not started.")
    return await _stage_change(settings, view, runs[-1])


async def whole_change(settings: Settings, view: RequirementView) -> Change:
    """What the requirement has merged so far.

    Raises: UnknownRequirement, RefusedInput without PROJECT_ROOT.
    """
    names = Names(view.number)
    return await _between(settings, view, names.seen, names.integration)


async def _stage_change(settings: Settings, view: RequirementView, attempt: RunView) -> Change:
    if not attempt.base_commit:
        raise UnknownRequirement(
            f"{attempt.stage} of {view.number} has not ended, or has no clone."
        )
    names = Names(view.number)
    key = stage_branch(view.number, attempt.stage, attempt.attempt).rpartition("/")[2]
    git = _store(settings, view)
    # Its branch is gone once its work is delivered; its commit is not.
    for head in (names.stage(key), names.kept(key), attempt.commit):
        if head and await git.commit_of(head):
            return await _between(settings, view, attempt.base_commit, head)
    return await _between(settings, view, attempt.base_commit, attempt.base_commit)


async def _between(settings: Settings, view: RequirementView, base: str, head: str) -> Change:
    git = _store(settings, view)
    first, last = await git.commit_of(base), await git.commit_of(head)
    if first is None or last is None:
        raise UnknownRequirement(f"The work of {view.number} is not in {git.directory} (any more).")
    return Change(git, first, last)


def _store(settings: Settings, view: RequirementView) -> Git:
    if view.started_at is None:
        raise UnknownRequirement(f"{view.number} has changed nothing: it has not been opened.")
    if view.host not in (None, settings.host):
        raise UnknownRequirement(
            f"{view.number} ran on host {view.host}, where its work lies; this is {settings.host}."
        )
    if view.base_commit is None:
        raise UnknownRequirement(f"{view.number} has changed nothing: it worked on no project.")
    if settings.project_root is None:
        raise RefusedInput("PROJECT_ROOT is not set: set it to the project of the requirement.")
    check_same_project(settings, view)
    path = store_path(settings.home.absolute(), settings.project_root)
    if not path.is_dir():
        raise UnknownRequirement(
            f"No work of {view.number} on {settings.project_root} lies here: {path} is not there."
        )
    return Git.ours(path)


# --- what it brought ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Brought:
    """What a delivered requirement brought; `change` is None where its work does not lie here."""

    view: RequirementView
    performance: PerformanceView
    change: Change | None
    size: str = ""

    def line(self) -> str:
        """Commits and files, time, what parallel work saved, cost, and the command for more."""
        more = f"python starter.py diff {self.view.number}" if self.change else ""
        parts = (self._where(), self._time(), self._saved(), amount(self.view.cost), more)
        return " · ".join(filter(None, parts))

    def document(self) -> Mapping[str, object]:
        """The part of `status --json` about it."""
        change = self.change
        return {
            "base": change.base if change else None,
            "head": change.head if change else None,
            "size": self.size,
            **asdict(self.performance),
        }

    def _where(self) -> str:
        if self.change is None:
            return ""
        commits = f"{self.change.base[:_SHORT]}..{self.change.head[:_SHORT]}"
        delivery = self.view.delivery
        branch = delivery.branch if delivery else self.view.target_branch
        return f"{branch} {commits}, {self.size}"

    def _time(self) -> str:
        spent = self.performance
        parts = (
            ("work", spent.parallel_seconds),
            ("queue", spent.queue_seconds),
            ("held", spent.hold_seconds),
            ("humans", spent.human_seconds),
        )
        told = ", ".join(f"{name} {output.duration(seconds)}" for name, seconds in parts)
        return f"{output.duration(spent.wall_seconds)} ({told})"

    def _saved(self) -> str:
        saved = self.performance
        whole = output.duration(saved.sequential_seconds)
        return f"{saved.percentage_saved:.0f} % saved of {whole}"


async def brought(settings: Settings, reader: SdlcReader, view: RequirementView) -> Brought | None:
    """What it brought; None unless it is delivered."""
    if view.state is not RequirementState.DELIVERED:
        return None
    performance = await reader.performance(view.number)
    try:
        change = await whole_change(settings, view)
    except (UnknownRequirement, RefusedInput):
        return Brought(view, performance, None)
    return Brought(view, performance, change, await change.size())
