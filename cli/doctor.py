"""`doctor`: everything that a requirement needs, looked at."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from cli import output
from cli.checks import Check, Kind
from cli.dependency_checks import dependency_looks
from cli.environment import load_settings
from cli.exits import OK, ExitCode
from cli.host_checks import host_looks
from cli.running import run
from settings import Settings

EXAMPLES = {
    "doctor": """
Examples:

  python starter.py doctor

  python starter.py doctor --json

  python starter.py doctor --dependencies
"""
}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    dependencies: Annotated[
        bool, typer.Option("--dependencies", help="Servers and workers only, for health checks.")
    ] = False,
) -> None:
    """Check dependencies, workers, agents file, project and disk; say what to do."""
    checks = run(_examine(load_settings(), dependencies_only=dependencies))
    if as_json:
        is_well = all(check.ok for check in checks)
        output.write_json({"ok": is_well, "checks": [asdict(check) for check in checks]})
    else:
        _show(checks)
    raise typer.Exit(_exit_code(checks))


async def _examine(settings: Settings, *, dependencies_only: bool) -> Sequence[Check]:
    on_host = () if dependencies_only else host_looks(settings)
    looks = (*dependency_looks(settings), *on_host)
    return await asyncio.gather(*(look.check() for look in looks))


def _exit_code(checks: Sequence[Check]) -> ExitCode:
    ailing = {check.kind for check in checks if not check.ok}
    if Kind.DEPENDENCY in ailing:
        return ExitCode.UNAVAILABLE
    return ExitCode.REFUSED if ailing else OK


def _show(checks: Sequence[Check]) -> None:
    rows = output.table("", "check", "address", "version", "ms", "", numbers=("ms",))
    for check in checks:
        mark = Text("ok", style="green") if check.ok else Text("NOT OK", style="bold red")
        latency = "" if check.latency_ms is None else f"{check.latency_ms:.0f}"
        rows.add_row(mark, check.name, check.address, check.version, latency, check.detail)
    console = output.data()
    console.print(rows)
    for check in checks:
        if check.advice:
            console.print(f"{check.name}: {output.plain(check.advice)}", soft_wrap=True)
