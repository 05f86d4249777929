"""Accounts of agents' programs: what a run tells of its own, and when work is tried again."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from pipeline.endings import MEANINGS, Blame
from pipeline.model import Ending, ProgramReport

TRIAL = timedelta(minutes=5)
"""How long a run must work until its account counts as able to: programs ask again by themselves
for up to four minutes before they give up."""

PAUSES = (timedelta(minutes=1), timedelta(hours=1))
"""The pause after a limit without a time, and the longest one; each is twice as long as before."""

_WORDS_LENGTH = 600


class AfterLimit(StrEnum):
    """What happens once a usage limit is over: key `resume_after_limit` of the agents file."""

    RESUME = "resume"
    ASK = "ask"


@dataclass(frozen=True)
class Limit:
    """An account that cannot work now, in the words of its program.

    `until` is when the program says that it can again, if it does. With `needs_human` nobody tries
    before a human has said so.
    """

    account: str
    words: str
    until: datetime | None = None
    needs_human: bool = False

    def next_try(self, pauses: int, now: datetime) -> datetime:
        """When a run tries again, after so many earlier limits in a row.

        A stated time that is over already is as good as none.
        """
        if self.until and self.until > now:
            return self.until
        first, longest = PAUSES
        pause: timedelta = min(first * 2 ** min(pauses, 30), longest)
        return now + pause


def limit_of(report: ProgramReport | None, after: AfterLimit) -> Limit | None:
    """The limit that a run has met; None if its account is able to work, for all it tells."""
    if report is None:
        return None
    meaning = MEANINGS[report.ending]
    asks = meaning.blame is Blame.ACCOUNT_ASKS
    if not (asks or meaning.blame is Blame.ACCOUNT_WAITS):
        return None
    if report.ending is Ending.USAGE_LIMIT:
        asks = after is AfterLimit.ASK
    words = " ".join(report.detail.split())[:_WORDS_LENGTH] or f"{report.kind} {meaning.words}."
    return Limit(report.account, words, report.until, asks)


def named(account: str) -> str:
    """The account among those that hold a requirement, which are requirements otherwise."""
    return f"account {account}"


def waits(words: str, account: str, until: datetime) -> str:
    """Why nothing starts until that moment."""
    return f"{named(account).capitalize()} cannot work until {_moment(until)}: {words}"


def is_tried(words: str, account: str, number: str) -> str:
    """Why nothing starts while one run goes first."""
    return f"{named(account).capitalize()} is tried by {number} first; it could not work: {words}"


def asks_human(words: str, account: str, until: datetime | None) -> str:
    """Why nothing starts before a human has said so, and how to say it."""
    reset = f" (reset at {_moment(until)})" if until else ""
    command = f"python starter.py accounts resume {account}"
    return f"{named(account).capitalize()} needs a human{reset}: {words} Then: {command}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
