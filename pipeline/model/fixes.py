"""Fixes: failures sent back to their owners, and what became of them."""

from dataclasses import dataclass
from datetime import timedelta

from pipeline.model.delivery import Proof
from pipeline.model.failures import Failure
from pipeline.model.plan import Head, RequirementRef, Stage
from pipeline.model.requirement import Opening, RequirementOrder
from pipeline.model.stages import StageOutcome, WorkSnapshot


@dataclass(frozen=True)
class Fix:
    """One failure, sent back to one owner.

    `parent` is the requirement, or the fix that did not succeed; `depth` counts parent links.
    `stage` is the owner's stage of the requirement, whose task the owner is reminded of; `task`
    is the fix's own stage.
    """

    number: str
    parent: str
    depth: int
    owner: str
    stage: str
    failure: Failure
    """What is to be repaired, all along a chain of fixes; its error grows by what came of each."""
    task: Stage
    said: str = ""
    """Signature of why the fix before it, its parent, did not succeed."""


@dataclass(frozen=True)
class FixOpening:
    """Asks for the rows of fixes, before their workflows start."""

    root: RequirementRef
    round: int
    fixes: tuple[Fix, ...]
    orders: tuple[RequirementOrder, ...]


@dataclass(frozen=True)
class FixMerge:
    """Asks a host to merge what a fix has done into its requirement's integration branch."""

    root: RequirementRef
    round: int
    fix: Fix
    commit: str

    @property
    def ref(self) -> RequirementRef:
        """The requirement that the merge is recorded for, as in every request."""
        return self.root


@dataclass(frozen=True)
class FixMerged:
    """`head` is the integration tip after the merge; a conflict leaves it where it was."""

    head: Head | None
    parallel: bool
    failure: Failure | None = None


@dataclass(frozen=True)
class Recovery:
    """Input of the strategic orchestrator: the failures of one round, and what is known so far."""

    ref: RequirementRef
    order: RequirementOrder
    opening: Opening
    parallel: bool
    round: int
    snapshot: WorkSnapshot
    proofs: tuple[Proof, ...]
    fixes: tuple[Fix, ...]
    spent: timedelta
    """The time that the requirement has taken so far, without what it waited for humans."""


@dataclass(frozen=True)
class MergedFix:
    """A fix whose commit is in the integration branch, and the stage that it belongs to.

    `head` is the tip with its merge; None if that is not known.
    """

    number: str
    stage: str
    head: Head | None = None


@dataclass(frozen=True)
class GivenUp:
    """A gate that no further fix is opened for, and why."""

    gate: str
    reason: str


@dataclass(frozen=True)
class Recovered:
    """What a round of fixes achieved.

    `outcomes` are stages that ran again, `replaced` fixes that stand for a stage. `cleared` are
    the failures (stage and gate) whose gate was made again, or waits for another one; `green`
    those of them whose gate is green, `failures` what is red now.
    """

    head: Head | None
    parallel: bool
    merged: tuple[MergedFix, ...] = ()
    outcomes: tuple[StageOutcome, ...] = ()
    replaced: tuple[tuple[str, StageOutcome], ...] = ()
    cleared: tuple[tuple[str, str], ...] = ()
    green: tuple[tuple[str, str], ...] = ()
    failures: tuple[Failure, ...] = ()
    given_up: tuple[GivenUp, ...] = ()
    proofs: tuple[Proof, ...] = ()
    attempts: tuple[tuple[str, int], ...] = ()
    """Attempts that are used up, by stage, where no outcome tells."""


@dataclass(frozen=True)
class Traces:
    """What an orchestrator has left that was ended from outside: integration tip, attempts used."""

    head: Head | None
    attempts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class RoundResults:
    """Records what a round of fixes achieved; `occurrence` counts with a human's answers.

    `green` are failures (stage and gate) that are gone, `replaced` the fixes that stand for a
    stage, `reopened` stages that wait again, with the reason; empty `waiting_for` says that the
    requirement continues.
    """

    ref: RequirementRef
    round: int
    occurrence: int
    green: tuple[tuple[str, str], ...]
    replaced: tuple[tuple[str, StageOutcome], ...]
    reopened: tuple[tuple[str, str], ...]
    waiting_for: str
