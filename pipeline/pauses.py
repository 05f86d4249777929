"""Pauses: what a human keeps from starting, until a human lets it continue."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from pipeline.errors import RefusedInput
from pipeline.model import OPENING, PRE_EMPTION

ALL = "all"
"""The scope of a pause of everything, what is started later included."""
NAME = "pause of "
"""How the name of a pause begins among those that hold a requirement."""


class PauseKind(StrEnum):
    """What a pause stops, the mildest first."""

    DRAIN = "drain"
    """No host takes a requirement; those that are under way continue to their end."""
    PAUSE = "pause"
    """No stage, build or delivery starts either; what runs goes on to its end."""
    SUSPEND = "suspend"
    """Running agents are suspended as well."""


_STRENGTH = tuple(PauseKind)


@dataclass(frozen=True)
class Pause:
    """A requirement with its fixes, or everything, is paused; `scope` is its number, or `ALL`."""

    scope: str
    kind: PauseKind
    since: datetime
    who: str

    @property
    def name(self) -> str:
        """The pause among those that hold a requirement, which are requirements otherwise."""
        return f"{NAME}{self.scope}"

    @property
    def is_of_all(self) -> bool:
        """Whether it holds everything."""
        return self.scope == ALL

    @property
    def end(self) -> str:
        """The command that ends it."""
        return f"python starter.py unpause {'--all' if self.is_of_all else self.scope}"

    @property
    def reason(self) -> str:
        """Who stopped what and since when, and what lets it continue."""
        what = {
            PauseKind.DRAIN: "Nothing new is taken",
            PauseKind.PAUSE: "Everything is paused" if self.is_of_all else "It is paused",
            PauseKind.SUSPEND: f"{'Everything' if self.is_of_all else 'It'} is paused, agents too",
        }[self.kind]
        since = f"{self.since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        return f"{what}, by {self.who} since {since}. It continues with: {self.end}"

    def holds(self, boundary: str) -> bool:
        """Whether nothing passes that boundary."""
        if boundary == PRE_EMPTION:
            return self.kind is PauseKind.SUSPEND
        return boundary == OPENING or self.kind is not PauseKind.DRAIN


def strengthened(pause: Pause | None, asked: PauseKind) -> PauseKind:
    """The kind of a pause once another one of its scope was asked for: the stronger of both.

    Raises: RefusedInput if what is paused were to continue to its end.
    """
    if pause is None:
        return asked
    if asked is PauseKind.DRAIN and pause.kind is not PauseKind.DRAIN:
        raise RefusedInput(f"What is under way cannot end: {pause.reason}")
    return max(pause.kind, asked, key=_STRENGTH.index)
