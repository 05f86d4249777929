"""Which kind a run is of, and what every kind can do."""

import signal

from adapters.agents.simulated import SIMULATED
from adapters.runs.directory import RunDirectory
from adapters.runs.looks import Look, RunKind
from adapters.runs.simulated import SimulatedRuns
from adapters.runs.supervised import SupervisedRuns


class RunKinds:
    """The kinds of runs of one host, as one. Every method may block."""

    def __init__(self) -> None:
        self.supervised = SupervisedRuns()
        self.simulated = SimulatedRuns()

    def look(self, run: RunDirectory) -> Look:
        """Where the run stands; what a crash left half done is settled on the way."""
        return self._of(run).look(run)

    def try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        """Ask the run to end; whether nothing of it is left and its end is recorded."""
        return self._of(run).try_end(run, asking)

    def _of(self, run: RunDirectory) -> RunKind:
        """The kind it was started as, whatever the agents file says today."""
        record = run.order()
        return self.simulated if record and record.kind == SIMULATED else self.supervised
