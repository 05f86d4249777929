"""Runs near their deadline: one that makes progress is given more time, within a bound."""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import psutil

from adapters.care.care import UNSEEN
from adapters.files import write_atomically
from adapters.runs import records
from adapters.runs.directory import RunDirectory, RunRecord
from adapters.runs.inventory import is_supervised, unended_runs
from adapters.runs.kinds import SIMULATED
from pipeline.errors import PermanentError
from pipeline.model import Alert, AlertKind
from pipeline.runbook import CHECK_INTERVAL

Extend = Callable[[str, float, str], Awaitable[None]]
"""Moves the deadline of a run (id, minutes, reason) and records that, before it returns."""

LOOKS, NEAR_SHARE = 2, 0.5
"""Near: what is left is the time of two checks, at most half of what the stage was given: one look
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
MOST_ENTRIES = 50_000
"""Files of a worktree that are looked at, so that huge caches in it cost no more than 0.2 s."""
LEAST_CPU_SECONDS = 0.1
"""Ten ticks of the kernel's clock: less is the resolution of the count."""
LEAST_CPU_SHARE = 0.01
"""Of a processor: a program that only waits for an answer wakes for its timers and needs less."""

_OUTPUT = (records.STDOUT, records.STDERR)


class Progress:
    """Samples runs: only the difference of two samples shows computing. Methods may block."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._samples: dict[str, list[tuple[float, float]]] = {}

    def sign(self, run: RunDirectory, record: RunRecord, window: float) -> str:
        """A sign of progress of the run in the last `window` seconds; empty if there is none."""
        has_computed = self.sample(run, window)
        since = time.time() - window
        if any(_is_changed(run.file(name), since) for name in _OUTPUT):
            return "it prints"
        if any(changed_at >= since for changed_at in _changes(run, record)):
            return "it writes files"
        return "it computes" if has_computed else ""

    def sample(self, run: RunDirectory, window: float) -> bool:
        """Sample the run's CPU time; whether it has grown since the first sample in the window."""
        now, used = self._clock(), _cpu_seconds(run)
        kept = [one for one in self._samples.get(run.run_id, []) if one[0] >= now - window]
        self._samples[run.run_id] = [*kept, (now, used)]
        if not kept:
            return False
        began_at, before = kept[0]
        return used - before >= max(LEAST_CPU_SECONDS, LEAST_CPU_SHARE * (now - began_at))

    def forget_others(self, run_ids: set[str]) -> None:
        """Drop the samples of all other runs."""
        self._samples = {key: seen for key, seen in self._samples.items() if key in run_ids}


def _is_changed(path: Path, since: float) -> bool:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return False
    return stat.st_size > 0 and stat.st_mtime >= since


def _changes(run: RunDirectory, record: RunRecord) -> Iterator[float]:
    """When each file of the worktree was changed, up to a number of files.

    An agent without a worktree works in its run directory, among files of ours: not looked at.
    """
    if Path(record.directory) == run.path:
        return
    folders, left = [record.directory], MOST_ENTRIES
    while folders and left > 0:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    left -= 1
                    yield entry.stat(follow_symlinks=False).st_mtime
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue  # removed meanwhile, or not ours to read


def _cpu_seconds(run: RunDirectory) -> float:
    """Processor time of the supervisor and all below it, those that have ended included."""
    try:
        supervisor = psutil.Process(run.identity()["supervisor"])
        processes = [supervisor, *supervisor.children(recursive=True)]
    except (KeyError, psutil.NoSuchProcess):
        return 0.0
    return sum(map(_used, processes))


def _used(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


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

    kinds = frozenset({AlertKind.RUN_NEAR_DEADLINE})
    prefix = ""
    blind = Alert(AlertKind.RUN_NEAR_DEADLINE, "run", UNSEEN)

    def __init__(self, home: Path, extend: Extend, progress: Progress | None = None) -> None:
        self._home = home.absolute()
        self._extend = extend
        self._progress = progress or Progress()

    async def look(self) -> Sequence[Alert]:
        """Runs that end soon, make progress, and may still be extended."""
        return await asyncio.to_thread(self._look)

    async def act(self, alert: Alert) -> str:
        """Extend the run by half of its stage's deadline; a repeat finds it extended.

        Raises: PermanentError if it was extended as often as it may be; what `extend` raises.
        """
        run = RunDirectory.of(self._home, alert.subject)
        seen = await asyncio.to_thread(self._near, run)
        record = run.order()
        if seen is None or record is None:
            return f"{run.run_id} is not near its deadline any more, or makes no progress."
        count = await asyncio.to_thread(_intend, run, record)
        minutes = EXTENSION_SHARE * record.deadline_seconds / record.minute_seconds
        reason = f"Near its deadline, and {seen.detail} (extension {count} of {MOST_EXTENSIONS})."
        await self._extend(run.run_id, minutes, reason)
        return f"Extended {run.run_id} by {minutes:g} minutes. {reason}"

    def _look(self) -> Sequence[Alert]:
        runs = [run for run in unended_runs(self._home) if run.has(records.STARTED)]
        self._progress.forget_others({run.run_id for run in runs})
        seen = [self._near(run) for run in runs if len(_extended(run)) < MOST_EXTENSIONS]
        return tuple(alert for alert in seen if alert)

    def _near(self, run: RunDirectory) -> Alert | None:
        """The alert of a living run that is near its deadline and makes progress."""
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
        return replace(self.blind, subject=run.run_id, detail=detail)


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
    write_atomically(run.file(EXTENSIONS), text)
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
