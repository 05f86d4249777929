"""The records of one run: the only memory of an agent run that outlives every process.

They lie beside the directory that the agent is told of (`AGOG_RUN_DIR`): whatever the agent does to
that one, its run is found.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from adapters.agent_programs import PROGRAMS
from adapters.agent_programs.program import ProcessEnd
from adapters.agent_programs.stream import read_report, together
from adapters.files import read_tail, try_lock, write_atomically
from adapters.runs import records
from pipeline.errors import RefusedInput
from pipeline.model import Ending, Head, ProgramReport, RunEnd, RunResult, Tokens, between
from pipeline.notice import last_block
from pipeline.numbers import slug
from pipeline.team import TEAM, Agent

RUNS = "runs"
"""Folder of the state directory with the directories that agents are told of: number / workflow run
/ stage-attempt."""
RECORDS = "run-records"
"""Folder of the state directory with our records of the runs, in the same shape."""

SEARCH_LIMIT = 256 * 1024 * 1024
"""Bytes from the end of a long output that are searched for the agent's last block, in pieces."""

_OVERLAP = 1024 * 1024
"""Bytes that two pieces share, so that one of them holds the block whole."""

OUTBOX, INBOX = "outbox", "inbox"
"""Folders of the agent's directory: what it hands on, and what is handed to it."""

_PART = re.compile(r"(.*-\d+)\.(\d+)")
"""The name of a later part's records: a run's name, and the number of the part from 2."""

SAFE_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""A safe folder name: never a way out of the state directory."""

_AGENT = TypeAdapter(Agent)
_ATTEMPT = re.compile(r"\d+(\.([2-9]|[1-9]\d+))?")
_SLUG_LENGTH = 100


@dataclass(frozen=True)
class RunRecord:
    """What was ordered, as recorded. It holds no value of a variable."""

    run_id: str
    kind: str
    agent: str
    directory: str
    deadline_seconds: float
    """From the start to the deadline, unless the deadline file says otherwise."""
    grace_seconds: float
    minute_seconds: float
    argv: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    """Names of the variables that the agent is given."""
    seconds: float = 0.0
    """How long a simulated run takes."""
    output: str = ""
    """What a simulated run prints."""
    head: tuple[str, int] | None = None
    """Commit that the agent starts from, and its position on the integration branch."""
    account: str = ""
    session: str = ""
    """Of a known program: the session's id, if that was chosen before the start."""
    stop: tuple[tuple[str, str, float], ...] = ()
    """Of a known program: how it is asked to end, step by step: signal, `pid` or `group`, wait."""
    last_events: tuple[str, ...] = ()
    """Of a known program: how the lines begin after which only its exit is missing."""
    linger_seconds: float = 0.0
    """Of a known program: how long it may take to exit after such a line."""
    earlier_tokens: tuple[int, int, int] = (0, 0, 0)
    """Of a program that counts whole sessions: what of it is not of this run, as `Tokens`."""
    purpose: str = ""
    """What this part of a run is for, unless it is the first: `answer` or `resumed`."""
    declared: Agent | None = None
    """The agent as its stage knows it, if its plan declares others beside the eleven."""
    most_usd: float | None = None
    """Of a known program: what the whole run may cost, with all its parts, if anything says so."""

    @property
    def member(self) -> Agent:
        """The agent. Raises: KeyError if it is neither declared nor one of the eleven."""
        return self.declared or TEAM[self.agent]


ANSWER, RESUMED = "answer", "resumed"
"""A program whose session goes on: it is asked once more for its answer, or was cut off."""


class RunDirectory:
    """Paths, records and lock of one run. Every method may block on the disk.

    `path` belongs to the agent: nothing in it is ours, and nothing that we know depends on it.

    A program whose session goes on after its end is started again: each start is a part of the run.
    Every part has records and a supervisor of its own; all share the agent's directory. The id of
    the n-th one is that of the run with `.n` behind it, from 2.
    """

    def __init__(self, path: Path, run_id: str) -> None:
        """Take the absolute path of the agent's directory; it need not exist yet.

        For a later part, the last folder's name ends like its id.
        """
        home, place = path.parents[3], path.parts[-3:]
        is_later = _PART.fullmatch(path.name)
        self.path = path.with_name(is_later[1]) if is_later else path
        self.run_id = run_id
        self.number = int(is_later[2]) if is_later else 1
        """The number of the part, from 1."""
        self.records_path = home.joinpath(RECORDS, *place)
        self._order: RunRecord | None = None

    @classmethod
    def of(cls, home: Path, run_id: str) -> "RunDirectory":
        """The directory of that run. Raises: RefusedInput for an id that makes no safe path."""
        number, _, rest = run_id.partition("/")
        workflow_run, _, rest = rest.partition("/")
        stage, _, attempt = rest.rpartition("/")
        parts = (number, workflow_run, f"{slug(stage)[:_SLUG_LENGTH]}-{attempt}")
        if not stage or not _ATTEMPT.fullmatch(attempt) or not all(map(SAFE_PART.fullmatch, parts)):
            raise RefusedInput(f"{run_id!r} is not a run id: REQ/workflow run/stage/attempt.")
        return cls(home.joinpath(RUNS, *parts), run_id)

    @classmethod
    def at(cls, records_path: Path) -> "RunDirectory | None":
        """The run with those records; None if none was ordered there."""
        home, place = records_path.parents[3], records_path.parts[-3:]
        run = cls(home.joinpath(RUNS, *place), "")
        fields = run._json(records.ORDER)
        return cls(home.joinpath(RUNS, *place), fields["run_id"]) if fields else None

    @classmethod
    def living(cls, home: Path) -> "Iterator[RunDirectory]":
        """Every part of a run there that was started or is about to be, and has no end."""
        for order in home.glob(f"{RECORDS}/*/*/*/{records.ORDER}"):
            run = cls.at(order.parent)
            if run and not run.has(records.EXIT) and not run.is_fresh:
                yield run

    @classmethod
    def of_execution(cls, home: Path, key: str) -> "Iterator[RunDirectory]":
        """Every run of that execution (`REQ/workflow run`) that was ordered."""
        for order in home.glob(f"{RECORDS}/{key}/*/{records.ORDER}"):
            run = cls.at(order.parent)
            if run and run.number == 1:
                yield run

    @classmethod
    def forget_queued(cls, home: Path, key: str) -> None:
        """Remove the markers of that execution's runs that wait for a slot."""
        for marker in home.glob(f"{RECORDS}/{key}/*/{records.QUEUED}"):
            marker.unlink(missing_ok=True)

    @property
    def first(self) -> "RunDirectory":
        """The first part, which has the run's own id."""
        return self.numbered(1)

    @property
    def following(self) -> "RunDirectory":
        """The next part; it may not exist."""
        return self.numbered(self.number + 1)

    @property
    def last(self) -> "RunDirectory":
        """The latest part: the one that lives, if any does."""
        return self.parts()[-1]

    def parts(self) -> "tuple[RunDirectory, ...]":
        """All parts of the run that were ordered, and the first in any case."""
        parts = [self.first]
        while (following := parts[-1].following).has(records.ORDER):
            parts.append(following)
        return tuple(parts)

    def numbered(self, number: int) -> "RunDirectory":
        """That part of the run, from 1; it may not exist."""
        if number == self.number:
            return self
        end = f".{number}" if number > 1 else ""
        own = f".{self.number}" if self.number > 1 else ""
        run_id = self.run_id.removesuffix(own)
        return RunDirectory(self.path.with_name(self.path.name + end), f"{run_id}{end}")

    @property
    def outbox(self) -> Path:
        """Where the agent leaves documents for others, in whichever part of its run."""
        return self.path / OUTBOX

    @property
    def inbox(self) -> Path:
        """Where it finds those of others."""
        return self.path / INBOX

    def file(self, name: str) -> Path:
        """The path of one of the run's records."""
        return self.records_path / name

    def has(self, name: str) -> bool:
        """Whether that record is there."""
        return self.file(name).exists()

    @property
    def is_recorded(self) -> bool:
        """Whether it was ever asked for; it may still wait for a slot."""
        return self.records_path.exists()

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was started here, and nothing is about to be."""
        if self.has(records.STARTED) or self.has(records.EXIT):
            return False
        with self.locked() as lock:
            return lock is not None

    @property
    def is_suspended(self) -> bool:
        """Whether it has to be suspended, or was when it ended."""
        return len(records.suspensions(str(self.records_path))) % 2 == 1

    def suspended_time(self, until: datetime) -> timedelta:
        """How long it was suspended in all, up to then."""
        changes = self._suspensions()
        pairs = zip_longest(changes[::2], changes[1::2], fillvalue=until)
        return sum((max(timedelta(), last - first) for first, last in pairs), timedelta())

    def create(self) -> None:
        """Make both directories, for this user only: prompts and logs are nobody else's."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._create_records()

    def _create_records(self) -> None:
        self.records_path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def mark_queued(self) -> None:
        """Mark that the run waits for a slot; the agent's directory is made when it starts."""
        self._create_records()
        self.file(records.QUEUED).touch()

    @contextmanager
    def locked(self) -> Iterator[int | None]:
        """The descriptor of the run's lock, or None while a supervisor (or another caller) has it.

        A child that inherits the descriptor keeps the lock.
        """
        self._create_records()
        lock = try_lock(self.file(records.LOCK))
        try:
            yield lock
        finally:
            if lock is not None:
                os.close(lock)

    def write_order(self, record: RunRecord) -> None:
        """Record what was ordered."""
        path = self.file(records.ORDER)
        write_atomically(path, json.dumps(asdict(record)), durable=False)

    def order(self) -> RunRecord | None:
        """What was ordered, if the run got that far.

        Raises: RefusedInput if the records are those of a run of another name.
        """
        if self._order:
            return self._order
        fields = self._json(records.ORDER)
        if fields is None:
            return None
        if fields["run_id"] != self.run_id:
            found, wanted = fields["run_id"], self.run_id
            raise RefusedInput(f"{self.records_path} belongs to {found}, not to {wanted}.")
        if fields.get("declared"):
            fields["declared"] = _AGENT.validate_python(fields["declared"])
        self._order = RunRecord(**fields)
        return self._order

    def write_deadline(self, seconds: float) -> None:
        """Set the seconds from the run's start to its deadline."""
        path = self.file(records.DEADLINE)
        write_atomically(path, repr(seconds), durable=False)

    def deadline_seconds(self, record: RunRecord) -> float:
        """Seconds from the run's start to its deadline."""
        try:
            return float(self.file(records.DEADLINE).read_text(encoding="ascii"))
        except FileNotFoundError:
            return record.deadline_seconds

    def starts(self) -> tuple[datetime, ...]:
        """When the agent was started, once or never."""
        try:
            text = self.file(records.STARTED).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ()
        return tuple(datetime.fromisoformat(line) for line in text.splitlines())

    def identity(self) -> dict[str, Any]:
        """Process ids of the run with their start times; empty before there is one."""
        return self._json(records.IDENTITY) or {}

    def write_exit(
        self,
        end: RunEnd,
        reason: str,
        *,
        durable: bool = True,
        started_at: datetime | None = None,
    ) -> None:
        """Record an end that no supervisor can record.

        A known program that was lost, perhaps with its host, ended when it printed its last line:
        all that it does it tells there.
        """
        started = self.starts() or ((started_at,) if started_at else ())
        record = self.order()
        is_told = end is RunEnd.LOST and record is not None and record.kind in PROGRAMS
        sign = self._last_sign(started[0]) if started and is_told else None
        records.write_exit(
            str(self.records_path),
            end,
            started_at=started[0].isoformat() if started else None,
            ended_at=sign.isoformat() if sign else None,
            reason=reason,
            durable=durable,
        )

    def _last_sign(self, started_at: datetime) -> datetime:
        """When the agent has printed something last, or else was started."""
        printed = [self.file(name) for name in (records.STDOUT, records.STDERR)]
        times = [path.stat().st_mtime for path in printed if path.exists()]
        return max((started_at, *(datetime.fromtimestamp(time, UTC) for time in times)))

    def result(self, limit: int = records.OUTPUT_LIMIT) -> RunResult:
        """How the run ended, with the tails of its output. Raises: KeyError before its end.

        All its parts are one run with one end.
        """
        parts = self.parts()
        result = parts[0].own_result(limit)
        for part in parts[1:]:
            if part.has(records.EXIT):
                result = replace(_joined(result, part, limit), parts=part.number)
        return result

    @property
    def purpose(self) -> str:
        """What this part is for; empty for the first one."""
        record = self.order()
        return record.purpose if record else ""

    @property
    def worked_seconds(self) -> float:
        """How long the agent has worked in this part, which has ended; suspended it did not."""
        record = self._json(records.EXIT) or {}
        started, ended = _time(record.get("started_at")), _time(record.get("ended_at"))
        if started is None or ended is None:
            return 0.0
        worked = between(started, ended, self._suspensions())
        return sum((each.end - each.start).total_seconds() for each in worked)

    def own_result(self, limit: int = records.OUTPUT_LIMIT) -> RunResult:
        """How this part alone ended. Raises: KeyError before its end."""
        record = self._json(records.EXIT)
        if record is None:
            raise KeyError(self.run_id)
        head = (self._json(records.ORDER) or {}).get("head")
        end, started_at = RunEnd(record["end"]), _time(record["started_at"])
        output, unread = self._output(limit)
        return RunResult(
            end=end,
            exit_code=record["exit_code"],
            output=output,
            error_output=read_tail(
                self.file(records.STDERR), min(limit, records.ERROR_OUTPUT_LIMIT)
            ),
            started_at=started_at,
            ended_at=_time(record["ended_at"]),
            # The marker may be gone; the recorded end still tells of a start.
            starts=0 if end is RunEnd.NOT_STARTED else len(self.starts()) or bool(started_at),
            log_reference=str(self.file(records.STDOUT)),
            reason=record["reason"],
            pre_empted=end is RunEnd.LOST and self.is_suspended,
            suspensions=self._suspensions(),
            head=Head(*head) if head else None,
            unread=unread,
            report=self._report(record),
        )

    def _report(self, ended: Mapping[str, Any]) -> ProgramReport | None:
        """What the program tells; None where its kind is not known, or it was never started."""
        record = self.order()
        program = PROGRAMS.get(record.kind) if record else None
        if record is None or program is None or RunEnd(ended["end"]) is RunEnd.NOT_STARTED:
            return None
        process = ProcessEnd(
            account=record.account,
            session=record.session,
            end=RunEnd(ended["end"]),
            exit_code=ended["exit_code"],
            errors=read_tail(self.file(records.STDERR), records.ERROR_OUTPUT_LIMIT),
            ended_at=_time(ended["ended_at"]),
            argv=tuple(record.argv),
        )
        report = read_report(program, self.file(records.STDOUT), process)
        if any(record.earlier_tokens):  # counted once more, of the session that was copied
            earlier = Tokens(*record.earlier_tokens)
            return replace(report, usage={k: used - earlier for k, used in report.usage.items()})
        return report

    def _output(self, limit: int) -> tuple[str, int]:
        """The tail of standard output, preceded by the agent's last block if that lies before it.

        Also the number of bytes at its beginning that were not searched, if no block was found.
        """
        path = self.file(records.STDOUT)
        tail, size = read_tail(path, limit), path.stat().st_size if path.exists() else 0
        record = self.order()
        if record and record.kind in PROGRAMS:
            return "", 0  # its report says what the agent said
        if record is None or size <= limit or not limit:
            return tail, 0  # it is whole, or not asked for
        agent, number = record.agent, self.run_id.partition("/")[0]
        if last_block(tail, agent=agent, number=number):
            return tail, 0
        end, unread = size - limit, max(0, size - SEARCH_LIMIT)
        while end > unread:
            start = max(unread, end - limit)
            text = _text(path, start, end + _OVERLAP)
            is_named = any(name in text for name in (agent, number, "\\u"))
            if is_named and (found := last_block(text, agent=agent, number=number, is_whole=False)):
                block = found.block
                said = f"```{'jsonc' if block.has_comments else 'json'}\n{block.text}\n```"
                return f"{text if block.problem else said}\n{tail}", 0
            end = start
        return tail, unread

    def _suspensions(self) -> tuple[datetime, ...]:
        return tuple(map(datetime.fromisoformat, records.suspensions(str(self.records_path))))

    def _json(self, name: str) -> dict[str, Any] | None:
        try:
            text = self.file(name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        # A power cut may empty a file that was not made durable: the same as not written.
        fields: dict[str, Any] | None = json.loads(text) if text else None
        return fields


def following_records(records_path: Path) -> Path:
    """Where the records of the part after the one with those records are, or would be."""
    found = _PART.fullmatch(records_path.name)
    name, number = (found[1], int(found[2])) if found else (records_path.name, 1)
    return records_path.with_name(f"{name}.{number + 1}")


def _joined(result: RunResult, part: RunDirectory, limit: int) -> RunResult:
    """How a run ended whose session went on in that part; between the two it did not work."""
    own, order = part.own_result(limit), part.order()
    if order is None or result.report is None:
        return result
    report = own.report
    was_refused = report is None or report.ending is Ending.REFUSED_START
    if order.purpose == RESUMED and was_refused and own.end is not RunEnd.CANCELLED:
        words = " ".join((report.detail if report else own.reason).split())
        reason = f"The session {order.session} could not be resumed: {words}"
        return replace(result, end=RunEnd.LOST, reason=reason, pre_empted=False)
    if report is None or not own.starts:
        return result
    is_answer = order.purpose == ANSWER
    waits = () if is_answer else _waits(result, own)
    return replace(
        own,
        started_at=result.started_at,
        starts=result.starts,
        resumes=result.resumes + (not is_answer),
        log_reference=result.log_reference,
        suspensions=(*result.suspensions, *waits, *own.suspensions),
        head=result.head,
        report=replace(
            together(result.report, report),
            asked_again=result.report.asked_again + is_answer,
        ),
    )


def _waits(before: RunResult, after: RunResult) -> tuple[datetime, ...]:
    """The time from the end of one part to the start of the next: it counts as a suspension."""
    if before.ended_at is None or after.started_at is None:
        return ()
    # One that died while it was suspended was so until then.
    is_suspended = len(before.suspensions) % 2 == 1
    return (after.started_at,) if is_suspended else (before.ended_at, after.started_at)


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _text(path: Path, start: int, end: int) -> str:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(end - start).decode(errors="replace")
