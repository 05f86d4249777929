"""Runs near their deadline: one that gets on is given more time, within a bound."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapters.agents.simulated import SIMULATED
from adapters.host_care.parts import Extend
from adapters.host_care.progress import Progress
from adapters.runs import records
from adapters.runs.directory import RunDirectory, RunRecord
from adapters.runs.inventory import is_supervised, unended_runs
from pipeline.errors import PermanentError
from pipeline.model import Symptom, SymptomKind
from pipeline.remedies import CHECK_INTERVAL

LOOKS, NEAR_SHARE = 2, 0.5
"""Near: what is left is the time of two patrols, at most half of what the stage was given: one look
at least where that is ten minutes, and one more if the first came to nothing from twenty on."""
WINDOW_SHARE, WINDOW_SECONDS = 0.25, 600.0
"""Progress counts within this share of the deadline, at most ten minutes: an agent may think, or
wait for a build of its own, that long without a word."""
EXTENSION_SHARE = 0.5
"""Of the stage's own deadline: what one extension gives."""
MOST_EXTENSIONS = 2
"""Of one run: it has twice its time then, and a human may give it more."""
EXTENSIONS = "sasha-extensions"
"""File of the run directory: a line per extension, the deadline in seconds that it started from."""


@dataclass(frozen=True)
class _Timing:
    """Seconds of a run: what is left of its deadline, that deadline, and its stage's own."""

    left: float
    deadline: float
    given: float

    @property
    def window(self) -> float:
        return min(WINDOW_SHARE * self.deadline, WINDOW_SECONDS)

    @property
    def near(self) -> float:
        return min(NEAR_SHARE * self.given, LOOKS * CHECK_INTERVAL.total_seconds())


class DeadlineCare:
    """Sees to `RUN_NEAR_DEADLINE`."""

    kind = SymptomKind.RUN_NEAR_DEADLINE
    component = "run"
    prefix = ""

    def __init__(self, home: Path, extend: Extend, progress: Progress | None = None) -> None:
        self._home = home.absolute()
        self._extend = extend
        self._progress = progress or Progress()

    async def look(self) -> Sequence[Symptom]:
        """Runs that end soon, get on, and may still be extended."""
        return await asyncio.to_thread(self._look)

    async def act(self, symptom: Symptom) -> str:
        """Extend the run by half of its stage's deadline; a repeat finds it extended.

        Raises: PermanentError if it was extended as often as it may be; what `extend` raises.
        """
        run = RunDirectory.of(self._home, symptom.subject)
        seen = await asyncio.to_thread(self._near, run)
        record = run.order()
        if seen is None or record is None:
            return f"{run.run_id} is not near its deadline any more, or makes no progress."
        count = await asyncio.to_thread(_intend, run, record)
        minutes = EXTENSION_SHARE * record.deadline_seconds / record.minute_seconds
        reason = f"Near its deadline, and {seen.detail} (extension {count} of {MOST_EXTENSIONS})."
        await self._extend(run.run_id, minutes, reason)
        return f"Extended {run.run_id} by {minutes:g} minutes. {reason}"

    def _look(self) -> Sequence[Symptom]:
        runs = [run for run in unended_runs(self._home) if run.has(records.STARTED)]
        self._progress.forget_others({run.run_id for run in runs})
        seen = [self._near(run) for run in runs if len(_extended(run)) < MOST_EXTENSIONS]
        return tuple(symptom for symptom in seen if symptom)

    def _near(self, run: RunDirectory) -> Symptom | None:
        """The symptom of a run that is near its deadline, lives, and gets on."""
        timing, record = _timing(run), run.order()
        if timing is None or record is None or timing.left > timing.near + timing.window:
            return None
        if timing.left > timing.near:
            self._progress.sample(run, timing.window)  # to be compared with when it is near
            return None
        sign = self._progress.sign(run, record, timing.window)
        if not sign or not is_supervised(run):
            return None
        detail = f"{timing.left / record.minute_seconds:.1f} minutes are left, and {sign}"
        return Symptom(self.kind, self.component, run.run_id, detail)


def _timing(run: RunDirectory) -> _Timing | None:
    """None for a run whose clock does not run, or that has no process."""
    record, starts = run.order(), run.starts()
    if record is None or record.kind == SIMULATED or not starts or run.is_suspended:
        return None
    now, deadline = datetime.now(UTC), run.deadline_seconds(record)
    used = now - starts[0] - run.suspended_time(now)
    return _Timing(deadline - used.total_seconds(), deadline, record.deadline_seconds)


def _intend(run: RunDirectory, record: RunRecord) -> int:
    """Note the extension before it is made; which one it is.

    One that came to nothing is tried again from the same deadline, and is not counted twice.
    """
    deadlines = {*_deadlines(run), run.deadline_seconds(record)}
    if len(deadlines) > MOST_EXTENSIONS:
        raise PermanentError(f"{run.run_id} was extended {MOST_EXTENSIONS} times: that is all.")
    text = "".join(f"{seconds!r}\n" for seconds in sorted(deadlines))
    records.write_atomically(str(run.file(EXTENSIONS)), text)
    return len(deadlines)


def _extended(run: RunDirectory) -> set[float]:
    """Deadlines that an extension has moved."""
    record = run.order()
    return _deadlines(run) - ({run.deadline_seconds(record)} if record else set())


def _deadlines(run: RunDirectory) -> set[float]:
    try:
        lines = run.file(EXTENSIONS).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return set()
    return {float(line) for line in lines}
