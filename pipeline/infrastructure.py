"""The P0 requirement for a component that could not be repaired: its number, row and question."""

from collections.abc import Iterable
from datetime import timedelta

from pipeline.model import (
    DEPENDENCIES,
    HUMAN,
    Ask,
    Escalation,
    Failure,
    FailureCollection,
    FailureKind,
    InfrastructureOrder,
    Pipeline,
    Priority,
    RequirementOrder,
    RequirementRef,
    Severity,
)
from pipeline.plan_rules import DELIVER
from pipeline.runbook import RUNBOOK

PLAN = Pipeline("infrastructure", (), ())
"""No stages: nothing is built; somebody has to repair a server."""

PREFIX = "REQ-INFRA-"

ANSWERS = (f"retry {DELIVER}", "decide abort")
"""Look again now, or continue without the repair."""

RESPITE = timedelta(hours=1)
"""How long trouble is left alone that a human gave up; then Sasha repairs it again."""


def infrastructure_number(component: str, nth: int) -> str:
    """`REQ-INFRA-<component>-<n>`."""
    return f"{prefix_of(component)}{nth}"


def prefix_of(component: str) -> str:
    """The start of the numbers of a component's requirements."""
    return f"{PREFIX}{component}-"


def last_nth(numbers: Iterable[str]) -> int:
    """The highest n of such numbers; 0 if there is none."""
    ends = (number.rpartition("-")[2] for number in numbers)
    return max((int(end) for end in ends if end.isdecimal()), default=0)


def is_infrastructure(number: str) -> bool:
    """Whether that is the number of a requirement for a component."""
    return number.startswith(PREFIX)


def stands_for(number: str, component: str) -> bool:
    """Whether that is the number of a requirement for this component."""
    return number.rpartition("-")[0] == infrastructure_number(component, 0).rpartition("-")[0]


def requirement_order(order: InfrastructureOrder) -> RequirementOrder:
    """The row's input."""
    title = RUNBOOK[order.alert.kind].diagnosis
    return RequirementOrder(
        order.number, title, Priority.P0, PLAN, sequential=False, heartbeat=None
    )


def description(order: InfrastructureOrder) -> str:
    """What is wrong, where, and which attempts have failed."""
    where = f"Host {order.place}" if order.place else "The cluster"
    tried = "\n".join(f"- {action}" for action in order.actions)
    return f"{where}: {order.alert.detail}\n\nAttempts that failed:\n{tried}"


def report(order: InfrastructureOrder, ref: RequirementRef) -> FailureCollection:
    """The one failure, and the question that goes with it."""
    gate = order.alert.component
    failure = Failure(
        stage=DELIVER,
        kind=FailureKind.INFRASTRUCTURE,
        gate=gate,
        owners=(),
        error=description(order),
        severity=Severity.CATASTROPHIC,
    )
    reason = (
        f"{order.alert.detail} Every attempt to repair it failed; all else holds. "
        f"{_effect_of_abort(gate)}"
    )
    escalation = Escalation(1, (Ask(DELIVER, gate, reason),), ANSWERS)
    return FailureCollection(ref, 1, (failure,), (), escalation, HUMAN)


def _effect_of_abort(component: str) -> str:
    hours = f"{RESPITE / timedelta(hours=1):g} h"
    if component in DEPENDENCIES.values():
        return (
            f"`abort` ends this and has Sasha leave it alone for {hours};"
            f" nothing continues while {component} cannot be reached."
        )
    return f"`abort` lets all else continue and has Sasha leave it alone for {hours}."
