"""`undo`: take back what a requirement has delivered, by one commit and through the same builds."""

from itertools import count
from typing import Annotated

import typer

from adapters.git import GitWorkspaces
from adapters.git.command import Git
from adapters.sdlc.reader import SdlcReader
from adapters.user_files import find_agents
from cli import output
from cli.connections import records, services
from cli.diff import SHOWN
from cli.inputs import (
    PRIORITY,
    TITLE_LENGTH,
    Submission,
    check_same_project,
    check_submission,
    identify_project,
)
from cli.running import OK, ExitCode, load_settings, run
from cli.start import Launch, launch
from cli.watch import detach, watch_all
from pipeline.agents_file import check_plan
from pipeline.errors import ProjectRefused, RefusedInput
from pipeline.model import Pipeline, Priority, RequirementState, Undo
from pipeline.undo import plan_of_undo
from settings import Settings

EXAMPLES = {
    "undo": """
Examples:

  python starter.py undo REQ-101 --dry-run

  python starter.py undo REQ-101 --wait
"""
}


def undo(
    req: Annotated[str, typer.Argument(help="The number of a delivered requirement.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    priority: Annotated[
        Priority, typer.Option("--priority", help="P0 (catastrophic) to P4.")
    ] = PRIORITY,
    wait: Annotated[
        bool, typer.Option("--wait", help="Follow to the end; the exit code tells how it ended.")
    ] = False,
) -> None:
    """Take back what a requirement has delivered.

    One commit reverts it on its target; what came later stays. It goes through the same builds and
    is delivered the same way, as a requirement of its own: REQ-101-undo. No agent works.
    """
    settings = load_settings()
    errand = _Errand(settings, req)
    try:
        code = run(errand.preview() if dry_run else errand.start(priority, wait=wait))
    except KeyboardInterrupt:
        code = detach([errand.number]) if errand.number else ExitCode.INTERRUPTED
    raise typer.Exit(code)


class _Errand:
    """One undo on its way; `number` is set once it may have been started."""

    def __init__(self, settings: Settings, of: str) -> None:
        self._settings = settings
        self._of = of
        self.number = ""

    async def preview(self) -> ExitCode:
        """Show what would change, in files and lines; nothing does."""
        async with records(self._settings) as reader:
            change, target, _ = await self._find(reader)
            number = await self._free_number(reader)
        git, tip, commit = await self._check(number, target, change)
        output.say(f"On {target}, {number} would be one commit after {tip[:10]}:")
        git.show("diff", "--stat", *SHOWN, tip, commit)
        return OK

    async def start(self, priority: Priority, *, wait: bool) -> ExitCode:
        """Check it as `preview` does, then start it."""
        settings = self._settings
        async with services(settings) as connected:
            change, target, plan = await self._find(connected.reader)
            number = await self._free_number(connected.reader)
            await self._check(number, target, change)
            title = f"Undo {change.number}: {change.title}"[:TITLE_LENGTH]
            submission = Submission(number, title, priority=priority, target=target)
            project = await identify_project(settings)
            order = Launch(check_submission(submission), plan, change, project)
            self.number = number
            await launch(connected, [order], heartbeat=settings.heartbeat, attach=False)
            output.say(f"{number}: accepted.")
            if wait:
                return await watch_all(settings, connected.reader, [number])
        output.write(f"{number} {RequirementState.ACCEPTED}")
        return OK

    async def _find(self, reader: SdlcReader) -> tuple[Undo, str, Pipeline]:
        """What is taken back, from which target, verified by which plan."""
        view = await reader.requirement(self._of)
        check_same_project(self._settings, view)
        if view.state is not RequirementState.DELIVERED or view.parent:
            what = "a fix of " + view.parent if view.parent else str(view.state)
            raise RefusedInput(f"{view.number} is {what}: only what was delivered can be undone.")
        if view.delivery is None:
            raise RefusedInput(
                f"{view.number} has delivered no commits that are known: it worked on no project, "
                "or an earlier version of this program delivered it."
            )
        done = view.delivery
        plan = plan_of_undo((await reader.order(view.number)).pipeline)
        check_plan(find_agents(self._settings.agents_file), plan)
        return Undo(view.number, view.title, done.before, done.commit), done.target, plan

    async def _check(self, number: str, target: str, change: Undo) -> tuple[Git, str, str]:
        """Raises: ProjectRefused if it cannot be undone now."""
        settings = self._settings
        if settings.project_root is None:
            raise ProjectRefused("PROJECT_ROOT is not set: set it to the project.")
        workspaces = GitWorkspaces(settings.project_root, settings.home, settings.git_filters)
        return await workspaces.preview_undo(number, target, change)

    async def _free_number(self, reader: SdlcReader) -> str:
        """`REQ-101-undo`, or the next one: an undo may fail, or be undone itself."""
        for nth in count(1):
            number = f"{self._of}-undo" if nth == 1 else f"{self._of}-undo-{nth}"
            if not await reader.states([number]):
                break
        return number
