"""What the directories of this host's runs say of stages that run: more than their rows.

Without a look at them, a merge that lasts would look like an agent that still works.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.stream import event_of
from adapters.files import read_tail
from adapters.runs import records as run_files
from adapters.runs.directory import RunDirectory
from adapters.sdlc.views import RequirementView, StageView
from pipeline.errors import RefusedInput
from pipeline.model import StageState

_TAIL_BYTES = 16 * 1024


@dataclass(frozen=True)
class Work:
    """What a run's own directory says of it, on this host: more than its row."""

    last_line: str = ""
    """What its agent has printed last."""
    agent_ended_at: datetime | None = None
    """When its agent ended, while its work is taken over and merged."""
    minute_seconds: float = 60.0
    """How long a minute of the plan takes."""


class RunWork:
    """What runs of this host have printed last; a file that has not changed is not read again."""

    def __init__(self, home: Path, host: str) -> None:
        self._home = home
        self._host = host
        self._read: dict[Path, tuple[int, str]] = {}

    def of(self, view: RequirementView) -> Mapping[str, Work]:
        """By stage, of those that run."""
        if view.host != self._host:
            return {}
        running = [stage for stage in view.stages if stage.state is StageState.RUNNING]
        return {stage.stage: self._work(stage) for stage in running if stage.run_id}

    def _work(self, stage: StageView) -> Work:
        assert stage.run_id
        try:
            run = RunDirectory.of(self._home, stage.run_id).last
            order = run.order()
        except RefusedInput:
            return Work()
        if order is None:
            return Work()
        ended_at = _changed_at(run.file(run_files.EXIT))
        line = self._last_line(run.file(run_files.STDOUT), order.kind)
        return Work(line, ended_at, order.minute_seconds)

    def _last_line(self, path: Path, kind: str) -> str:
        try:
            size = path.stat().st_size
        except OSError:
            return ""
        if path not in self._read or self._read[path][0] != size:
            self._read[path] = (size, _last_readable(read_tail(path, _TAIL_BYTES), kind))
        return self._read[path][1]


def _last_readable(text: str, kind: str) -> str:
    """The last line that is not empty; of a known program's stream what that says."""
    program = PROGRAMS.get(kind)
    for line in reversed(text.splitlines()):
        event = event_of(line.encode(errors="replace")) if program else None
        said = [*program.readable(event)] if program and event is not None else [line]
        for shown in reversed([row for part in said for row in part.splitlines()]):
            if shown.strip():
                return shown
    return ""


def _changed_at(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None
