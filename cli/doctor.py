"""`doctor`: everything that a requirement needs, looked at."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from cli import output
from cli.checks import Check, Kind, Look
from cli.dependency_checks import dependency_looks
from cli.doctor_view import checks_part, sasha_part
from cli.host_checks import host_looks
from cli.running import OK, ExitCode, load_settings, run
from cli.sasha_report import SashaReport, report_on_sasha
from cli.store_checks import store_looks
from cli.worker_checks import worker_looks
from settings import Settings

EXAMPLES = {
    "doctor": """
Examples:

  python starter.py doctor

  python starter.py doctor --json

  python starter.py doctor --dependencies
"""
}

_UNDISTURBED_SECONDS = 1.0


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    dependencies: Annotated[
        bool, typer.Option("--dependencies", help="Servers and workers only, for health checks.")
    ] = False,
) -> None:
    """Check dependencies, workers, this host; say what to do.

    And what Sasha does, and would do.
    """
    settings = load_settings()
    if dependencies:
        checks, sasha = run(_checks(dependency_looks(settings))), None
    else:
        checks, sasha = run(_examine(settings))
    if as_json:
        output.write_json(_document(checks, sasha))
    else:
        _show(checks, sasha)
    raise typer.Exit(_exit_code(checks))


async def _examine(settings: Settings) -> tuple[Sequence[Check], SashaReport]:
    """The dependencies have a moment for themselves: what is measured is then their time alone."""
    dependencies = asyncio.ensure_future(_checks(dependency_looks(settings)))
    await asyncio.wait({dependencies}, timeout=_UNDISTURBED_SECONDS)
    others = (*store_looks(settings), *worker_looks(settings), *host_looks(settings))
    needed, rest, sasha = await asyncio.gather(
        dependencies, _checks(others), report_on_sasha(settings)
    )
    return (*needed, *rest), sasha


async def _checks(looks: Sequence[Look]) -> Sequence[Check]:
    return await asyncio.gather(*(look.check() for look in looks))


def _document(checks: Sequence[Check], sasha: SashaReport | None) -> Mapping[str, object]:
    is_well = all(check.ok for check in checks)
    document = {"ok": is_well, "checks": [asdict(check) for check in checks]}
    return document if sasha is None else {**document, "sasha": sasha.document}


def _exit_code(checks: Sequence[Check]) -> ExitCode:
    ailing = {check.kind for check in checks if not check.ok}
    if Kind.DEPENDENCY in ailing:
        return ExitCode.UNAVAILABLE
    return ExitCode.REFUSED if ailing else OK


def _show(checks: Sequence[Check], sasha: SashaReport | None) -> None:
    console = output.data()
    console.print(checks_part(checks), crop=False)
    if sasha is not None:
        console.print(sasha_part(sasha), crop=False)
