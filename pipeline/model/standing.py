"""Where a requirement stands, as a message."""

from dataclasses import dataclass

from pipeline.model.references import Head
from pipeline.model.states import StageState


@dataclass(frozen=True)
class StageStanding:
    """Where one stage stands; `fixes` are those merged on its behalf."""

    stage: str
    state: StageState
    attempt: int
    reason: str = ""
    verdict: str = ""
    flags: tuple[str, ...] = ()
    fixes: tuple[str, ...] = ()
    judged: tuple[str, ...] = ()


@dataclass(frozen=True)
class Standing:
    """Every stage, and the integration tip."""

    head: Head | None
    stages: tuple[StageStanding, ...]
