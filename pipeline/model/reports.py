"""What the program of an agent tells of its own run: its answer, its cost, and how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Ending(StrEnum):
    """How a program's own work ended, whatever its exit code says; `pipeline/endings.py` judges."""

    SUCCESS = "success"
    DENIED = "denied"
    """It gave no answer, and something that it wanted to do was denied."""
    NO_ANSWER = "no_answer"
    """It never met the schema of its answer."""
    TURN_LIMIT = "turn_limit"
    BUDGET_LIMIT = "budget_limit"
    INTERRUPTED = "interrupted"
    CUT_OFF = "cut_off"
    """Its stream stops without an end."""
    NOT_LOGGED_IN = "not_logged_in"
    LOGIN_REFUSED = "login_refused"
    NO_CREDIT = "no_credit"
    USAGE_LIMIT = "usage_limit"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    UNKNOWN_MODEL = "unknown_model"
    API_ERROR = "api_error"
    NO_SANDBOX = "no_sandbox"
    REFUSED_START = "refused_start"
    """It did not take its command line, or its session."""
    FAILED = "failed"
    """It ended with an error of its own."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of the model: `cached` are those of `input` that were read from a cache."""

    input: int = 0
    output: int = 0
    cached: int = 0

    @property
    def total(self) -> int:
        """All that was read and written."""
        return self.input + self.output


@dataclass(frozen=True)
class ProgramReport:
    """What a known program said of its run; computed from its run directory alone.

    `text` is the agent's last message and `answer` what it gave by the schema, if it did. `detail`
    are the program's own words about an ending that is no success, `until` when a limit is reset.
    `cost_usd` and `tokens` are None where the program does not say.
    """

    kind: str
    account: str
    ending: Ending
    session: str = ""
    text: str = ""
    answer: Mapping[str, object] | None = None
    detail: str = ""
    until: datetime | None = None
    models: tuple[str, ...] = ()
    tokens: Tokens | None = None
    cost_usd: float | None = None
    denials: tuple[str, ...] = ()
    retries: int = 0
    """How often it asked its model again by itself."""
    asked_again: int = 0
    """How often it was asked once more for an answer that was missing or refused."""
    has_worked: bool = False
    """Whether its model has said or done anything: then its session knows more than its task."""
