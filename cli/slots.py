"""`slots`: shows or sets how many agents may live at once on this host; its worker follows."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer

from adapters.runs.inventory import Usage, count_runs
from adapters.runs.slots import SlotLimit
from cli import output
from cli.running import AsJson, load_settings
from pipeline.errors import RefusedInput

EXAMPLES = {
    "slots": """
Examples:

  python starter.py slots

  python starter.py slots 3

  python starter.py slots --reset
"""
}


def slots(
    number: Annotated[
        int | None, typer.Argument(help="Agents at once, 1 to 1000; running agents continue.")
    ] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to MAX_PARALLEL_STAGES.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show or set how many agents may live at once on this host.

    A running worker applies a new number without a restart.
    """
    if reset and number is not None:
        raise RefusedInput("Give a number or --reset, not both.")
    settings = load_settings()
    limit = SlotLimit(settings.home, settings.max_parallel_stages)
    if number is not None:
        limit.set(number)
    elif reset:
        limit.reset()
    document = slots_document(limit, count_runs(settings.home))
    if as_json:
        output.write_json(document)
    else:
        _show(document, limit)


def _show(document: Mapping[str, object], limit: SlotLimit) -> None:
    lowered = limit.lowered()
    rows = output.table("", "slots", numbers=("slots",))
    rows.add_column("", no_wrap=False)
    rows.add_row("now", str(document["slots"]), "")
    rows.add_row("configured", str(limit.configured), "MAX_PARALLEL_STAGES")
    if (chosen := limit.chosen()) is not None:
        rows.add_row("set", str(chosen), "until slots --reset")
    if lowered:
        rows.add_row("lowered", str(lowered.to), output.plain(lowered.why))
    output.data().print(rows)
    counts = (f"{document[name]} {name}" for name in ("living", "suspended", "waiting"))
    output.write(f"Agents: {', '.join(counts)}.")


def slots_document(limit: SlotLimit, usage: Usage) -> Mapping[str, object]:
    """The current limit and its origin, and how many agents live, are suspended and wait.

    Raises: RefusedInput if a limit's file in the state directory is not valid.
    """
    lowered = limit.lowered()
    return {
        "slots": limit.current(),
        "configured": limit.configured,
        "set": limit.chosen(),
        "lowered": asdict(lowered) if lowered else None,
        **asdict(usage),
    }
