"""`gc`: remove what requirements have left that ended long ago; never unmerged work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer

from adapters.care.disk import Leftover, LeftoverCollector
from adapters.git import GitWorkspaces
from adapters.git.garbage import Garbage, GarbageCollector
from adapters.readiness import MIB
from cli import output
from cli.connections import records
from cli.running import OK, AsJson, ExitCode, load_settings, run
from settings import Settings

EXAMPLES = {
    "gc": """
Examples:

  python starter.py gc --dry-run

  python starter.py gc --days 7 --keep-mib 500
"""
}


def gc(
    days: Annotated[
        float, typer.Option("--days", min=0, help="Only of requirements that ended so long ago.")
    ] = 30.0,
    keep_mib: Annotated[
        int,
        typer.Option("--keep-mib", min=0, help="Keep the latest logs and clones up to this size."),
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be removed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what ended requirements have left on this host.

    Clones, logs of runs, and branches whose work a branch of the project holds: ours in the store,
    and those that a delivery has made in your repository. Work that was not merged stays and is
    named. Nothing on a remote is touched.
    """
    settings = load_settings()
    age = timedelta(days=days)
    raise typer.Exit(run(_collect(settings, age, keep_mib * MIB, is_dry=dry_run, as_json=as_json)))


@dataclass(frozen=True)
class _Plan:
    """What is to be removed, and what of it was refused in the end."""

    leftovers: Sequence[Leftover]
    garbage: Sequence[Garbage]
    freed: int
    refused: Sequence[str] = ()

    def document(self, *, is_dry: bool) -> Mapping[str, object]:
        """The JSON of `gc`."""
        return {
            "dry_run": is_dry,
            "bytes": self.freed,
            "folders": [str(each.path) for each in self.leftovers],
            "refs": [ref for each in self.garbage for ref in each.refs],
            "branches": [branch for each in self.garbage for branch in each.branches],
            "unmerged": [name for each in self.garbage for name in each.unmerged],
            "refused": list(self.refused),
        }


async def _collect(
    settings: Settings, age: timedelta, keep: int, *, is_dry: bool, as_json: bool
) -> ExitCode:
    until, root = datetime.now(UTC) - age, settings.project_root
    workspaces = GitWorkspaces(root, settings.home, settings.git_filters) if root else None
    refs = GarbageCollector(root, settings.home) if root else None
    async with records(settings) as reader:
        collector = LeftoverCollector(settings.home, reader, workspaces, age)
        old = [each for each in await collector.plan() if each.ended_at <= until]
        garbage: Sequence[Garbage] = ()
        if refs:
            ended = await reader.ended(await refs.numbers())
            numbers = [number for number, at in ended.items() if at <= until]
            garbage = await refs.plan(numbers)
        sizes = {each.path: each.size() for each in old}
        leftovers = _beyond(old, sizes, keep)
        plan = _Plan(leftovers, garbage, sum(sizes[each.path] for each in leftovers))
        if not is_dry:
            collected = await collector.collect(leftovers)
            for each in garbage if refs else ():
                await refs.remove(each)  # type: ignore[union-attr] # there is none without it
            plan = _Plan(collected.removed, garbage, collected.freed, collected.refused)
    if as_json:
        output.write_json(plan.document(is_dry=is_dry))
    else:
        _show(plan, is_dry=is_dry)
    return ExitCode.NOT_DELIVERED if plan.refused else OK


def _beyond(old: Sequence[Leftover], sizes: Mapping[Path, int], keep: int) -> list[Leftover]:
    """The longest ended ones, until what stays takes no more than `keep` bytes."""
    beyond, left = [], sum(sizes.values())
    for each in sorted(old, key=lambda one: one.ended_at):
        if left <= keep:
            break
        left -= sizes[each.path]
        beyond.append(each)
    return beyond


def _show(plan: _Plan, *, is_dry: bool) -> None:
    verb = "Would remove" if is_dry else "Removed"
    for leftover in plan.leftovers:
        output.write(f"{verb} {leftover.path}")
    for each in plan.garbage:
        if each.refs:
            output.write(f"{verb} {len(each.refs)} refs of {each.number} from the store")
        for branch in each.branches:
            output.write(f"{verb} the branch {branch}")
        for name in each.unmerged:
            output.write(f"Kept {output.plain(name)}: its work is in no branch of the project")
    for refusal in plan.refused:
        output.complain(output.plain(refusal))
    output.say(f"{verb} {plan.freed / MIB:.1f} MiB.")
