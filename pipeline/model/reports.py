"""What the program of an agent tells of its own run: its answer, its cost, and how it ended."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    UNSERVED = "unserved"
    """It works on another machine, and no agent host there takes its work."""
    HANDOVER = "handover"
    """Its work could not be handed over to another machine, or started there, or taken back."""
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

    def __add__(self, other: "Tokens") -> "Tokens":
        return Tokens(
            self.input + other.input, self.output + other.output, self.cached + other.cached
        )

    def __sub__(self, other: "Tokens") -> "Tokens":
        """The rest, never below zero."""
        return Tokens(
            max(0, self.input - other.input),
            max(0, self.output - other.output),
            max(0, self.cached - other.cached),
        )


def sum_tokens(counts: Iterable["Tokens | None"]) -> "Tokens | None":
    """The sum of what is known; None if nothing is."""
    known = [each for each in counts if each is not None]
    return sum(known, Tokens()) if known else None


@dataclass(frozen=True)
class Cost:
    """What runs of agents cost.

    `usd` is what is known of their dollars; with `is_estimated` some of it was computed from tokens
    and prices. With `is_partial` some runs have used their model, and no price is known of it.
    """

    tokens: Tokens | None = None
    usd: float | None = None
    is_estimated: bool = False
    is_partial: bool = False

    def __add__(self, other: "Cost") -> "Cost":
        known = [usd for usd in (self.usd, other.usd) if usd is not None]
        return Cost(
            sum_tokens((self.tokens, other.tokens)),
            sum(known) if known else None,
            self.is_estimated or other.is_estimated,
            self.is_partial or other.is_partial,
        )

    @property
    def is_known(self) -> bool:
        """Whether anything was told of it."""
        return self.tokens is not None or self.usd is not None


NO_COST = Cost()
"""Nothing is told of any."""


@dataclass(frozen=True)
class ProgramReport:
    """What a known program said of its run; computed from its run directory alone.

    `text` is the agent's last message and `answer` what it gave by the schema, if it did. `detail`
    are the program's own words about an ending that is no success, `until` when a limit is reset.
    `usage` holds the tokens of each model, by its name: empty where the program does not say, with
    an empty name where only the model is not known. `cost_usd` is None where it does not say.
    """

    kind: str
    account: str
    ending: Ending
    session: str = ""
    text: str = ""
    answer: Mapping[str, object] | None = None
    detail: str = ""
    until: datetime | None = None
    usage: Mapping[str, Tokens] = field(default_factory=dict)
    counts_session: bool = False
    """Whether `usage` is that of the whole session, also of what was before it resumed."""
    cost_usd: float | None = None
    unpriced: Mapping[str, Tokens] = field(default_factory=dict)
    """Usage of a part of the run that told no dollars, where another part has told some."""
    denials: tuple[str, ...] = ()
    retries: int = 0
    """How often it asked its model again by itself."""
    asked_again: int = 0
    """How often it was asked once more for an answer that was missing or refused."""
    has_worked: bool = False
    """Whether its model has said or done anything: then its session knows more than its task."""

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that it has used, as far as they are known."""
        return tuple(filter(None, self.usage))

    @property
    def tokens(self) -> Tokens | None:
        """Those of all models; None where it does not say."""
        return sum_tokens(self.usage.values())

    @property
    def to_estimate(self) -> Mapping[str, Tokens]:
        """The usage whose dollars are not told; a run that used its model is never free."""
        return self.unpriced if self.cost_usd else self.usage
