"""`doctor`: every check, as text or JSON, with an exit code."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from cli import output
from cli.doctor.checks import Check, Kind, Probe
from cli.doctor.dependencies import dependency_probes, store_probes, worker_probes
from cli.doctor.host import host_probes
from cli.doctor.sasha import SashaReport, report_on_sasha, report_text
from cli.running import OK, AsJson, ExitCode, load_settings, run
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
    as_json: AsJson = False,
    dependencies: Annotated[
        bool, typer.Option("--dependencies", help="Servers and workers only, for health checks.")
    ] = False,
) -> None:
    """Check dependencies, workers and this host; say what to do.

    Also what Sasha does, and what she would do.
    """
    settings = load_settings()
    sasha: SashaReport | None = None
    if dependencies:
        checks = run(_checks(dependency_probes(settings)))
    else:
        checks, sasha = run(_examine(settings))
    if as_json:
        output.write_json(_document(checks, sasha))
    else:
        console = output.data()
        console.print(_text(checks), crop=False)
        if sasha is not None:
            console.print(report_text(sasha), crop=False)
    faulty = {check.kind for check in checks if not check.ok}
    if Kind.DEPENDENCY in faulty:
        raise typer.Exit(ExitCode.UNAVAILABLE)
    raise typer.Exit(ExitCode.REFUSED if faulty else OK)


async def _examine(settings: Settings) -> tuple[Sequence[Check], SashaReport]:
    """All checks and the report on Sasha.

    The dependencies go first, so that their latency does not include the work of the others.
    """
    dependencies = asyncio.ensure_future(_checks(dependency_probes(settings)))
    await asyncio.wait({dependencies}, timeout=_UNDISTURBED_SECONDS)
    others = (*store_probes(settings), *worker_probes(settings), *host_probes(settings))
    needed, rest, sasha = await asyncio.gather(
        dependencies, _checks(others), report_on_sasha(settings)
    )
    return (*needed, *rest), sasha


async def _checks(probes: Sequence[Probe]) -> Sequence[Check]:
    return await asyncio.gather(*(probe.check() for probe in probes))


def _document(checks: Sequence[Check], sasha: SashaReport | None) -> Mapping[str, object]:
    is_ok = all(check.ok for check in checks)
    document = {"ok": is_ok, "checks": [asdict(check) for check in checks]}
    return document if sasha is None else {**document, "sasha": sasha.document}


def _text(checks: Sequence[Check]) -> RenderableType:
    """A line for each check, and below what to do about those that are not ok."""
    rows = output.table("", "check", "ms", "", numbers=("ms",), fold=("",))
    for check in checks:
        mark = Text("ok", style="green") if check.ok else Text("NOT OK", style="bold red")
        latency = "" if check.latency_ms is None else f"{check.latency_ms:.0f}"
        said = filter(None, (check.version, check.detail.rstrip("."), check.address))
        rows.add_row(mark, check.name, latency, output.plain(", ".join(said)))
    by_advice: dict[str, list[str]] = {}
    for check in checks:
        if check.advice:
            by_advice.setdefault(output.plain(check.advice), []).append(check.name)
    return Group(rows, *(_advice(names, said) for said, names in by_advice.items()))


def _advice(names: Sequence[str], said: str) -> Text:
    """Advice under the names of the checks that give it; most errors begin with the first."""
    others = [name for name in names if not said.startswith(name)]
    return output.prose(f"{', '.join(others)}: {said}" if others else said)
