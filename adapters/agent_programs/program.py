"""What an adapter of a coding agent's program says: how it starts, what it prints, how it stops.

Everything is computed from the agents file's words and the run directory: a new worker computes the
same, and nothing is started to find something out.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any, Protocol

from adapters.agent_programs.probes import Asked
from pipeline.agent_programs import ProgramAgent, ProgramTraits
from pipeline.model import Ending, ProgramReport, RunEnd
from pipeline.project_proposal import Login

Event = Mapping[str, Any]
"""A line of a program's stream."""

TEXT_LIMIT = 512 * 1024
"""Characters of one message that are kept, from its end: twice a notice's limit."""
DETAIL_LIMIT = 4_000
DENIALS_LIMIT = 50
_COUNT_LIMIT = 1 << 50
_NAME_LIMIT = 200
_TIME_LIMIT = 1 << 36

NETWORK_VARIABLES = (
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
    *("NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)
"""Variables that every program is given where the worker has them."""


@dataclass(frozen=True)
class Task:
    """What a program is started for. `directory` is its clone, `run_directory` its own folder.

    It may read in both, and write documents for others into `outbox`, whatever else it may do; a
    program that cannot hold that says so to its agent.

    `session` is a new session's id, for programs that let it be chosen; with `resumes` the id of
    the session that goes on. A new one begins with a copy of the session that `copies` names, as
    `AgentProgram.copyable` does.
    """

    directory: Path
    run_directory: Path
    outbox: Path
    schema: str
    """JSON schema of the answer."""
    session: str
    resumes: bool = False
    copies: str = ""
    prompt_by_schema: str = ""
    """The prompt of a new session as a program gets it that takes the answer by a schema."""


@dataclass(frozen=True)
class StopStep:
    """Asks a program to end: a signal by name, to its `pid` or `group`, and how long to wait."""

    signal: str
    target: str
    seconds: float


@dataclass(frozen=True)
class Launch:
    """How a program is started and stopped.

    `files` are written into the run directory before, by name. `passed_on` are names of variables
    that it inherits, `variables` those that are set for it, and `emptied` those that are set to
    nothing where the worker has none, so that no file of a repository can set them.
    """

    argv: tuple[str, ...]
    stop: tuple[StopStep, ...]
    passed_on: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)
    emptied: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    session: str = ""
    """The session's id where it is known before the start."""


@dataclass(frozen=True)
class ProcessEnd:
    """How the program's process ended, as its run directory says."""

    account: str
    session: str
    """The session's id if it was chosen."""
    end: RunEnd
    exit_code: int | None
    errors: str
    """The end of its standard error."""
    ended_at: datetime | None
    argv: tuple[str, ...] = ()
    """What was started: it may name the model where the stream does not."""


class EventStream(Protocol):
    """Reads one run's stream, event by event, and keeps no more than the report needs."""

    def take(self, event: Event) -> None:
        """Read one event; an unknown one is skipped."""

    def report(self, process: ProcessEnd) -> ProgramReport:
        """What the whole stream and the end of its process say."""


class AgentProgram(Protocol):
    """One kind of program."""

    kind: str
    takes_schema: bool
    """Whether it gives its answer by a schema; else it ends with a fenced notice."""
    traits: ProgramTraits
    last_events: tuple[str, ...]
    """How the lines begin after which the program has nothing more to do than to exit."""

    def launch(self, agent: ProgramAgent, task: Task) -> Launch:
        """How to start it, or to resume its session."""

    def copyable(self, session: str, environment: Mapping[str, str]) -> str:
        """How a session of another directory is named to begin with a copy of it.

        Empty if it is gone, or the program has no way to do so. `environment` is the worker's.
        """

    def stream(self) -> EventStream:
        """A reader of its stream."""

    def readable(self, event: Event) -> Iterator[str]:
        """The event as lines for a human; none if it says nothing."""

    def login(self, ask: Asked) -> tuple[Login, str]:
        """Whether it can log in, and what is wrong; no model is asked."""


# --- what the adapters share ----------------------------------------------------------------------


def ending_of_status(status: int | None) -> Ending | None:
    """What a model's API means by an HTTP status; None for one that says nothing."""
    if status is None or status < 400:
        return None
    if status == 402:
        return Ending.NO_CREDIT
    if status in (401, 403):
        return Ending.LOGIN_REFUSED
    if status == 404:
        return Ending.UNKNOWN_MODEL
    return Ending.OVERLOADED if status in (408, 429) or status >= 500 else Ending.API_ERROR


def kept(text: str, limit: int = DETAIL_LIMIT) -> str:
    """The end of a text: as much of it as is kept."""
    return text if len(text) <= limit else f"…{text[-limit:]}"


def text_of(value: object) -> str:
    """A text of the stream, empty where there is none."""
    return value if isinstance(value, str) else ""


def name_of(value: object) -> str:
    """An id or a name of the stream, no longer than one is."""
    return text_of(value)[:_NAME_LIMIT]


def count(value: object) -> int:
    """A count of the stream, zero where there is none."""
    is_one = isinstance(value, int) and not isinstance(value, bool)
    return min(max(0, value), _COUNT_LIMIT) if isinstance(value, int) and is_one else 0


def dollars(value: object) -> float | None:
    """An amount of money of the stream; None where there is none."""
    is_one = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
    return float(value) if isinstance(value, int | float) and is_one and value >= 0 else None


def time_of(value: object) -> datetime | None:
    """A time of the stream in seconds since 1970; None where there is none."""
    seconds = count(value)
    return datetime.fromtimestamp(seconds, UTC) if 0 < seconds < _TIME_LIMIT else None


def record(value: object) -> Event:
    """An object of the stream, empty where there is none."""
    return value if isinstance(value, dict) else {}


def records(value: object) -> list[Event]:
    """The objects in a list of the stream."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def short(text: str, limit: int = 200) -> str:
    """One line of a log for humans."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"
