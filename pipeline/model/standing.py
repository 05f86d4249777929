"""Where a requirement stands, as a message."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.model.cards import StageCard
from pipeline.model.references import Head


@dataclass(frozen=True)
class Standing:
    """The card of every stage by its name, and the integration tip."""

    head: Head | None
    cards: Mapping[str, StageCard]
