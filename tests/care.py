"""What the care of a host stands on, with everything in a test's hands."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from adapters.runs.directory import RunDirectory, RunRecord
from pipeline.errors import DependencyUnavailable
from pipeline.model import Alert, RunEnd

LONG_AGO = timedelta(days=2)


@dataclass
class KnownRequirements:
    """What the database would say of the end of requirements; None: it cannot be asked."""

    ends: dict[str, datetime] | None = field(default_factory=dict)

    def end(self, number: str, ago: timedelta = LONG_AGO) -> None:
        assert self.ends is not None
        self.ends[number] = datetime.now(UTC) - ago

    async def ended(self, numbers: Sequence[str]) -> Mapping[str, datetime]:
        if self.ends is None:
            raise DependencyUnavailable("SDLC database", "localhost", "Start it.")
        return {number: self.ends[number] for number in numbers if number in self.ends}


def a_run(
    home: Path,
    run_id: str,
    *,
    ended: bool = True,
    size: int = 0,
    worktree: Path | None = None,
) -> RunDirectory:
    """The directory of a run as its supervisor leaves it; `size` bytes of output."""
    run = RunDirectory.of(home.absolute(), run_id)
    run.create()
    directory = str(worktree or run.path)
    run.write_order(RunRecord(run_id, "command", "roy", directory, 60.0, 0.0, 60.0))
    run.file("stdout").write_bytes(b"x" * size)
    run.file("lock").touch()
    if ended:
        run.write_exit(RunEnd.EXITED, "", durable=False)
    return run


@contextmanager
def sleeper(
    environment: Mapping[str, str], directory: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of a session of its own that does nothing until the block ends."""
    variables = {"PATH": os.environ["PATH"], **environment}
    process = subprocess.Popen(
        ["sleep", "300"], env=variables, cwd=directory, start_new_session=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def subjects(alerts: Iterable[Alert]) -> list[str]:
    return sorted(alert.subject for alert in alerts)
