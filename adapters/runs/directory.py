"""The directory of one run: the only memory of an agent run that outlives every process."""

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

from adapters.runs import records
from pipeline.errors import RefusedInput
from pipeline.model import Head, RunEnd, RunResult
from pipeline.numbers import slug

RUNS = "runs"
"""Folder of the state directory that holds the runs: number / workflow run / stage-attempt."""

OUTPUT_LIMIT = 8 * 1024 * 1024
"""Bytes of standard output that are read back, from its end: a notice of 5 MB is seen whole."""

ERROR_OUTPUT_LIMIT = 64 * 1024
"""Bytes of standard error that are read back, from its end: what a human wants to see."""

SAFE_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""What may name a folder: never a way out of the state directory."""

_SLUG_LENGTH = 100


@dataclass(frozen=True)
class RunRecord:
    """What was ordered, as it stands in the run directory. It holds no value of a variable."""

    run_id: str
    kind: str
    agent: str
    directory: str
    deadline_seconds: float
    """When the run is due after its start, unless the deadline file says something later."""
    grace_seconds: float
    minute_seconds: float
    argv: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    """Names of the variables that the agent is given."""
    seconds: float = 0.0
    """How long a simulated run takes."""
    output: str = ""
    """What a simulated run will have printed."""
    head: tuple[str, int] | None = None
    """Commit and position on the integration branch of what the agent starts from."""


class RunDirectory:
    """Paths, records and lock of one run. Every method may block on the disk."""

    def __init__(self, path: Path, run_id: str) -> None:
        """Take the directory's absolute path; it need not exist yet."""
        self.path = path
        self.run_id = run_id
        self._order: RunRecord | None = None

    @classmethod
    def of(cls, home: Path, run_id: str) -> "RunDirectory":
        """The directory of that run. Raises: RefusedInput for an id that makes no safe path."""
        number, _, rest = run_id.partition("/")
        workflow_run, _, rest = rest.partition("/")
        stage, _, attempt = rest.rpartition("/")
        parts = (number, workflow_run, f"{slug(stage)[:_SLUG_LENGTH]}-{attempt}")
        if not stage or not attempt.isdecimal() or not all(map(SAFE_PART.fullmatch, parts)):
            raise RefusedInput(f"{run_id!r} is not a run id: REQ/workflow run/stage/attempt.")
        return cls(home.joinpath(RUNS, *parts), run_id)

    @classmethod
    def at(cls, path: Path) -> "RunDirectory | None":
        """The run whose directory that is; None if none was ordered there."""
        fields = cls(path, "")._json(records.ORDER)
        return cls(path, fields["run_id"]) if fields else None

    @classmethod
    def living(cls, home: Path) -> "Iterator[RunDirectory]":
        """Every run under that state directory that is started, or about to be, and has no end."""
        for order in home.glob(f"{RUNS}/*/*/*/{records.ORDER}"):
            run = cls(order.parent, "")
            fields = run._json(records.ORDER)
            if fields and not run.has(records.EXIT) and not run.is_fresh:
                yield cls(order.parent, fields["run_id"])

    @classmethod
    def of_execution(cls, home: Path, key: str) -> "Iterator[RunDirectory]":
        """Every run of that execution (`REQ/workflow run`) that was ordered."""
        for order in home.glob(f"{RUNS}/{key}/*/{records.ORDER}"):
            fields = cls(order.parent, "")._json(records.ORDER)
            if fields:
                yield cls(order.parent, fields["run_id"])

    @classmethod
    def forget_queued(cls, home: Path, key: str) -> None:
        """Nothing of that execution waits for a slot any more."""
        for marker in home.glob(f"{RUNS}/{key}/*/{records.QUEUED}"):
            marker.unlink(missing_ok=True)

    def file(self, name: str) -> Path:
        """The path of one of the run's files."""
        return self.path / name

    def has(self, name: str) -> bool:
        """Whether that file is there."""
        return self.file(name).exists()

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was started here, and nothing is about to be."""
        if self.has(records.STARTED) or self.has(records.EXIT):
            return False
        with self.locked() as lock:
            return lock is not None

    @property
    def is_suspended(self) -> bool:
        """Whether it has to stand still, or stood still when it ended."""
        return len(records.suspensions(str(self.path))) % 2 == 1

    def suspended_time(self, until: datetime) -> timedelta:
        """How long it has stood still in all, up to then."""
        changes = self._suspensions()
        pairs = zip_longest(changes[::2], changes[1::2], fillvalue=until)
        return sum((max(timedelta(), last - first) for first, last in pairs), timedelta())

    def create(self) -> None:
        """Make the directory, for this user's eyes only: prompts and logs are nobody else's."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def mark_queued(self) -> None:
        """Say that the run waits for a slot."""
        self.create()
        self.file(records.QUEUED).touch()

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """The descriptor of the run's lock, or None while a supervisor (or another caller) has it.

        A child that inherits the descriptor keeps the lock.
        """
        self.create()
        lock = os.open(self.file(records.LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield lock
        finally:
            os.close(lock)

    def write_order(self, record: RunRecord) -> None:
        """Record what was ordered; once and for all."""
        path = str(self.file(records.ORDER))
        records.write_atomically(path, json.dumps(asdict(record)), durable=False)

    def order(self) -> RunRecord | None:
        """What was ordered, if the run got that far.

        Raises: RefusedInput if the directory belongs to a run of another name.
        """
        if self._order:
            return self._order
        fields = self._json(records.ORDER)
        if fields is None:
            return None
        if fields["run_id"] != self.run_id:
            raise RefusedInput(f"{self.path} belongs to {fields['run_id']}, not to {self.run_id}.")
        self._order = RunRecord(**fields)
        return self._order

    def write_deadline(self, seconds: float) -> None:
        """Set how many seconds after its start the run is due."""
        path = str(self.file(records.DEADLINE))
        records.write_atomically(path, repr(seconds), durable=False)

    def deadline_seconds(self, record: RunRecord) -> float:
        """How many seconds after its start the run is due."""
        try:
            return float(self.file(records.DEADLINE).read_text(encoding="ascii"))
        except FileNotFoundError:
            return record.deadline_seconds

    def starts(self) -> tuple[datetime, ...]:
        """When the agent was started: once, or never."""
        try:
            text = self.file(records.STARTED).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        return tuple(datetime.fromisoformat(line) for line in text.splitlines())

    def identity(self) -> dict[str, Any]:
        """Process ids of the run with their start times; empty before there is one."""
        return self._json(records.IDENTITY) or {}

    def write_exit(self, end: RunEnd, reason: str, *, durable: bool = True) -> None:
        """Record an end that the supervisor could not record."""
        started = self.starts()
        records.write_exit(
            str(self.path),
            end,
            started_at=started[0].isoformat() if started else None,
            reason=reason,
            durable=durable,
        )

    def result(self, limit: int = OUTPUT_LIMIT) -> RunResult:
        """How the run ended, with the tails of its output. Raises: KeyError before its end."""
        record = self._json(records.EXIT)
        if record is None:
            raise KeyError(self.run_id)
        head = (self._json(records.ORDER) or {}).get("head")
        end = RunEnd(record["end"])
        return RunResult(
            end=end,
            exit_code=record["exit_code"],
            output=_tail(self.file(records.STDOUT), limit),
            error_output=_tail(self.file(records.STDERR), min(limit, ERROR_OUTPUT_LIMIT)),
            started_at=_time(record["started_at"]),
            ended_at=_time(record["ended_at"]),
            starts=0 if end is RunEnd.NOT_STARTED else len(self.starts()),
            log_reference=str(self.file(records.STDOUT)),
            reason=record["reason"],
            pre_empted=end is RunEnd.LOST and self.is_suspended,
            suspensions=self._suspensions(),
            head=Head(*head) if head else None,
        )

    def _suspensions(self) -> tuple[datetime, ...]:
        return tuple(map(datetime.fromisoformat, records.suspensions(str(self.path))))

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            text = self.file(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        # A power cut may leave a file empty that was not made durable: as good as not written.
        fields: dict[str, Any] | None = json.loads(text) if text else None
        return fields


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _tail(path: Path, limit: int) -> str:
    """The last `limit` bytes of a file as text; a file that is not there is empty."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - limit))
            return file.read(limit).decode(errors="replace")
    except FileNotFoundError:
        return ""
