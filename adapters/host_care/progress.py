"""Whether a run makes progress: by what it prints, what it writes, or what it computes."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from adapters.runs import records
from adapters.runs.directory import RunDirectory, RunRecord

MOST_ENTRIES = 50_000
"""Files of a worktree that are looked at, so that huge caches in it cost no more than 0.2 s."""
LEAST_CPU_SECONDS = 0.1
"""Ten ticks of the kernel's clock: less is the resolution of the count."""
LEAST_CPU_SHARE = 0.01
"""Of a processor: a program that only waits for an answer wakes for its timers and needs less."""

_OUTPUT = (records.STDOUT, records.STDERR)


class Progress:
    """Looks at runs repeatedly: computing shows only between two looks. Methods may block."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with no look; `clock` counts seconds."""
        self._clock = clock
        self._samples: dict[str, list[tuple[float, float]]] = {}

    def sign(self, run: RunDirectory, record: RunRecord, window: float) -> str:
        """What tells that the run got on in the last `window` seconds; empty if nothing does."""
        has_computed = self.sample(run, window)
        since = time.time() - window
        if any(_is_changed(run.file(name), since) for name in _OUTPUT):
            return "it prints"
        if any(changed_at >= since for changed_at in _changes(run, record)):
            return "it writes files"
        return "it computes" if has_computed else ""

    def sample(self, run: RunDirectory, window: float) -> bool:
        """Note what the run has computed; whether it did so since the first look in the window."""
        now, used = self._clock(), _cpu_seconds(run)
        kept = [one for one in self._samples.get(run.run_id, []) if one[0] >= now - window]
        self._samples[run.run_id] = [*kept, (now, used)]
        if not kept:
            return False
        began_at, before = kept[0]
        return used - before >= max(LEAST_CPU_SECONDS, LEAST_CPU_SHARE * (now - began_at))

    def forget_others(self, run_ids: set[str]) -> None:
        """Keep what is known of those runs alone."""
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
