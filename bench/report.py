"""The result: one table for people, one document for programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from rich.box import SIMPLE_HEAD
from rich.table import Table

from bench.boundaries import Boundaries
from bench.figures import ASYNCIO, BARE, OURS, Figure
from bench.measuring import Sample

SCHEMA_VERSION = 2
_MARKS = {True: "✓", False: "✗", None: ""}


@dataclass(frozen=True)
class Result:
    """Everything that a run of the benchmark found out."""

    rounds: int
    machine: Mapping[str, object]
    versions: Mapping[str, str]
    figures: Sequence[Figure]
    boundaries: Sequence[Boundaries]
    samples: Sequence[Sample]

    def document(self) -> dict[str, object]:
        """The result as one JSON document."""
        return {"schema_version": SCHEMA_VERSION, **asdict(self)}

    def table(self) -> Table:
        """Medians by contender, the ratio, and the aim beside it."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, caption=self._caption())
        table.add_column(f"median of {self.rounds} rounds")
        for name in ("plain asyncio", "bare Temporal", "Agog", "Agog ÷ bare"):
            table.add_column(name, justify="right")
        table.add_column("aim")
        for figure in self.figures:
            table.add_row(*_cells(figure))
        return table

    def boundary_table(self) -> Table:
        """How long our part takes between two real agents."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("from an agent's exit to the next one's start")
        for name in ("boundaries", "p50 (ms)", "p95 (ms)"):
            table.add_column(name, justify="right")
        for each in self.boundaries:
            count = f"{each.side_by_side} side by side" if each.side_by_side > 1 else "alone"
            figures = (_number(each.p50, 0), _number(each.p95, 0))
            table.add_row(count, str(len(each.milliseconds)), *figures)
        return table

    def _caption(self) -> str:
        machine, versions = self.machine, self.versions
        return (
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB,"
            f" {machine['system']}, Python {machine['python']};"
            f" temporalio {versions['temporalio']}, Temporal {versions['temporal_server']},"
            f" PostgreSQL {versions['postgresql']}, NATS {versions['nats_server']};"
            f" load {machine['load_before']} before, {machine['load_after']} after"
        )


def _cells(figure: Figure) -> Sequence[str]:
    values = [_number(figure.medians.get(name), figure.digits) for name in (ASYNCIO, BARE, OURS)]
    aim = f"{figure.aim} {_MARKS[figure.is_met]}".strip()
    return (figure.title, *values, _number(figure.ratio, 2), aim)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"
