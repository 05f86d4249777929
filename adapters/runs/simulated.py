"""Runs without a process: a start time and a length, so that a restart sleeps only the rest."""

import math
import signal
from datetime import UTC, datetime, timedelta

from adapters.runs import records
from adapters.runs.directory import RunDirectory, RunRecord
from adapters.runs.looks import Ended, Fresh, Living, Look
from pipeline.model import RunEnd


class SimulatedRuns:
    """Simulated runs. Nothing is made durable: a power cut loses no work that was paid for."""

    def start(self, run: RunDirectory, record: RunRecord) -> bool:
        """Start the run's time; False if it was started or cancelled before."""
        run.create()
        if run.has(records.STARTED) or run.has(records.EXIT):
            return False
        run.write_order(record)
        try:
            with run.file(records.STARTED).open("x", encoding="utf-8") as file:
                file.write(f"{records.now()}\n")
        except FileExistsError:
            return False
        return True

    def look(self, run: RunDirectory) -> Look:
        """Where the run stands; its end is recorded by whoever sees it first."""
        if run.has(records.EXIT):
            return Ended()
        record, starts = run.order(), run.starts()
        if record is None or not starts:
            return Fresh()
        if run.is_suspended:
            return Living(seconds=math.inf)
        allowed = run.deadline_seconds(record) + record.grace_seconds
        now = datetime.now(UTC)
        lasts = timedelta(seconds=min(record.seconds, allowed)) + run.suspended_time(now)
        due = starts[0] + lasts
        left = (due - now).total_seconds()
        if left > 0:
            return Living(seconds=left)
        self._finish(run, record, (starts[0], due), is_late=record.seconds > allowed)
        return Ended()

    def try_end(self, run: RunDirectory, asking: signal.Signals) -> bool:
        """Record the run as cancelled; there is nothing to end."""
        if not run.has(records.EXIT):
            run.create()
            run.write_exit(RunEnd.CANCELLED, "cancelled", durable=False)
        return True

    def _finish(
        self,
        run: RunDirectory,
        record: RunRecord,
        times: tuple[datetime, datetime],
        *,
        is_late: bool,
    ) -> None:
        started, due = times
        if not is_late:
            run.file(records.STDOUT).write_text(record.output, encoding="utf-8")
        records.write_exit(
            str(run.records_path),
            RunEnd.TIMED_OUT if is_late else RunEnd.EXITED,
            exit_code=None if is_late else 0,
            started_at=started.isoformat(),
            ended_at=due.isoformat(),
            reason="ended at its deadline and grace" if is_late else "",
            durable=False,
        )
