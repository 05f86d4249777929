"""`verify-parallel`: whether stages that could run at the same time did."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta

import typer
from rich.table import Table
from rich.text import Text

from cli import output
from cli.connections import records
from cli.running import OK, AsJson, ExitCode, Number, load_settings, run
from pipeline.overlap import Cause, Delay, Overlaps, Pair, Relation, overlaps
from settings import Settings

EXAMPLES = {
    "verify-parallel": """
Examples:

  python starter.py verify-parallel REQ-101

  python starter.py verify-parallel REQ-101 --json
"""
}

_MARKS = {
    Relation.OVERLAPPED: ("", "green"),
    Relation.APART: ("apart", "bold red"),
    Relation.ORDERED: ("·", "dim"),
    Relation.AFTER: ("after", "dim"),
    Relation.TOO_SHORT: ("too short", "yellow"),
    Relation.SKIPPED: ("skipped", "dim"),
    Relation.NOT_RUN: ("not run", "yellow"),
}
"""What a cell of the matrix says; an overlap says how long it was."""

_TELLS_NOTHING = {
    Relation.NOT_RUN: "have not both run",
    Relation.TOO_SHORT: "ran too briefly to tell",
}

_WHY = {
    Cause.SEQUENTIAL: "the requirement ran one stage after another"
    " (start --sequential, or ENABLE_PARALLEL_EXECUTION=false)",
    Cause.HELD: "it was held",
    Cause.QUEUED: "it waited for a slot of its host (MAX_PARALLEL_STAGES, `slots`)",
    Cause.STARTING: "its clone was made and prepared meanwhile",
}


def verify_parallel(
    req: Number,
    as_json: AsJson = False,
) -> None:
    """Check that stages which could run at once did.

    Exit code 1 with the reason if two did not, although neither needs the other and each could
    begin before the other ended.
    """
    found = run(_overlaps(load_settings(), req))
    if as_json:
        output.write_json(_document(req, found))
    else:
        output.data().print(_matrix(found), crop=False)
        for line in verdict(found):
            output.write(line)
    raise typer.Exit(OK if found.is_proved else ExitCode.NOT_DELIVERED)


async def _overlaps(settings: Settings, number: str) -> Overlaps:
    async with records(settings) as reader:
        facts = await reader.facts(number)
    return overlaps(facts.history, facts.pipeline, facts.mode, facts.skipped)


def _document(number: str, found: Overlaps) -> Mapping[str, object]:
    return {
        "req_number": number,
        "is_proved": found.is_proved,
        "stages": found.stages,
        "pairs": [
            {
                "stages": (pair.first, pair.second),
                "relation": pair.relation,
                "overlap_seconds": pair.overlap.total_seconds(),
                "possible_seconds": pair.possible.total_seconds(),
                "delay": _delay_document(pair.delay) if pair.delay else None,
            }
            for pair in found.pairs
        ],
    }


def _delay_document(delay: Delay) -> Mapping[str, object]:
    fields = asdict(delay)
    length: timedelta = fields.pop("length")
    return {**fields, "seconds": length.total_seconds()}


def _matrix(found: Overlaps) -> Table:
    """Numbered stages beside their overlaps with those before them."""
    columns = tuple(str(place) for place in range(1, len(found.stages)))
    rows = output.table("", "stage", *columns, numbers=("", *columns), fold=("stage",))
    pairs = {(pair.first, pair.second): pair for pair in found.pairs}
    for place, name in enumerate(found.stages):
        cells = (_cell(pairs[before, name]) for before in found.stages[:place])
        rows.add_row(str(place + 1), name, *cells)
    return rows


def _cell(pair: Pair) -> Text:
    said, style = _MARKS[pair.relation]
    return Text(said or output.duration(pair.overlap.total_seconds()), style)


def verdict(found: Overlaps) -> list[str]:
    """The pairs that should have overlapped, each with its reason; else what is proved."""
    apart = [_apart_line(pair) for pair in found.of(Relation.APART)]
    if apart:
        return apart
    if not found.may_overlap:
        return ["No two stages of this plan can overlap: each needs the one before it."]
    open_ones = [pair for pair in found.pairs if pair.relation in _TELLS_NOTHING]
    if not found.is_proved:
        told = (f"{p.first} and {p.second} ({_TELLS_NOTHING[p.relation]})" for p in open_ones)
        return [f"Nothing is verified: {'; '.join(told)}."]
    overlapped = len(found.of(Relation.OVERLAPPED))
    noun = "pair of stages" if overlapped == 1 else "pairs of stages"
    said = f"{overlapped} {noun} overlapped, and none that should have ran apart."
    return [f"{said} Of {len(open_ones)} more nothing is known." if open_ones else said]


def _apart_line(pair: Pair) -> str:
    possible = output.duration(pair.possible.total_seconds())
    said = f"{pair.first} and {pair.second} could overlap for {possible} and did not"
    if (delay := pair.delay) is None:
        return f"{said}."
    reason = f": {output.first_line(delay.reason)}" if delay.reason else ""
    late = output.duration(delay.length.total_seconds())
    return output.plain(
        f"{said}: {delay.stage} began {late} after it could, {_WHY[delay.cause]}{reason}"
    )
