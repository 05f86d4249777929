"""By which rule a run was judged: for people who ask why their stage went on, or did not."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pipeline.model import FailureKind, StageState
from pipeline.team import Role

_GREEN: Mapping[str, str] = MappingProxyType(
    {
        Role.CRITIQUE: "APPROVED and APPROVED_WITH_CONDITIONS let the plan go on; conditions are"
        " handed to those who implement and test.",
        Role.QA: "test_result PASS is green; a flag asks for a specialist.",
        Role.SPECIALIST: "test_result PASS is green.",
        Role.STATISTICS: "overall PASS is green.",
    }
)
_COMPLETE = "A valid notice that says COMPLETE, and changes that merge, complete the stage."

_UNSEEN = "Nobody saw it end: its host was lost, or its requirement ended first."

_RED: Mapping[FailureKind, str] = MappingProxyType(
    {
        FailureKind.CRASH: "A run that ends without a valid notice failed, whatever it printed.",
        FailureKind.TIMEOUT: "A run that misses its deadline and the grace after it is ended.",
        FailureKind.NOTICE: "A notice that breaks a rule is none, and so is one without the verdict"
        " of its role.",
        FailureKind.UNREAD: "Output that nobody has searched may hold the answer: a human looks.",
        FailureKind.FAILED: "FAILED is the agent's own answer; so is an error beside COMPLETE.",
        FailureKind.BLOCKED: "BLOCKED asks a human, unless a tester lists failures.",
        FailureKind.CRITIQUE: "REQUEST_CHANGES sends research back, within the bound of reviews;"
        " ESCALATE asks a human.",
        FailureKind.VERDICT: "FAIL is red, and is owned by the side under test.",
        FailureKind.BUILD: "A build's exit code decides, not the words in its output.",
        FailureKind.PREPARE: "An agent does not start in a clone that could not be prepared.",
        FailureKind.CONFLICT: "A conflict is owned by the later of two merges.",
        FailureKind.DELIVERY: "The target branch moves only by a fast-forward that it allows.",
        FailureKind.INFRASTRUCTURE: "What no agent can repair asks a human and blames no agent.",
        FailureKind.PRE_EMPTED: "A run that died while it was suspended for a P0 is repeated.",
        FailureKind.LIMITED: "A run whose account cannot work is held, and owes nothing.",
        FailureKind.REFUSED: "What is refused before any work would be refused again: a human.",
        FailureKind.ENDED: "Somebody has ended it.",
    }
)


@dataclass(frozen=True)
class Decision:
    """What was decided of a run, and by which rule; `rule` is empty while nothing is decided."""

    said: str
    rule: str


def decision(
    role: str,
    state: StageState,
    verdict: str,
    kind: FailureKind | None,
    *,
    is_answered: bool,
    was_seen: bool = True,
) -> Decision:
    """What was made of a run that ended so; `role` is its agent's.

    `kind` is that of the failure that was reported of it, `is_answered` says whether its notice was
    accepted, `was_seen` whether its end was. A failed run that was repeated at once has been
    reported nowhere: it has no kind.
    """
    said = f"{state}, {verdict}" if verdict else str(state)
    if state is StageState.COMPLETED:
        return Decision(said, _GREEN.get(role, _COMPLETE) if verdict else _COMPLETE)
    if not state.is_red:
        return Decision(said, "")
    if kind is not None:
        return Decision(f"{said}: {kind}", _RED[kind])
    if not was_seen:
        return Decision(said, _UNSEEN)
    if not is_answered:
        return Decision(said, _RED[FailureKind.CRASH])
    return Decision(said, "")
