"""Budgets in dollars: when one warns, what room it leaves, and when nothing starts any more."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from pipeline.costs import dollars

WARN_SHARE = 0.8
"""Of a budget that does not say itself when it warns."""
ALL_DAYS = "day"
"""The scope of the budget that every day has."""
WAIT = timedelta(minutes=5)
"""How long to wait for running agents to end, unless one tells of its end."""

_NOTHING = 0.005
"""Less than half a cent is no room."""
_OF_DAY = "day "


@dataclass(frozen=True)
class RunBudget:
    """What one run of an agent may cost in dollars.

    Its program holds the run to `most`; `expected` is what the agents file says that one costs.
    """

    most: float | None = None
    expected: float | None = None


NO_BUDGET = RunBudget()
"""Nothing says what a run costs."""


@dataclass(frozen=True)
class Budget:
    """What a requirement, or a day, may cost in dollars, and what it has.

    `scope` is the requirement's number, or a day. Running agents may still cost `reserved`. Nothing
    starts once `limit` is spent; None never holds. `warn` says when it warns, if anything does.
    """

    scope: str
    limit: float | None
    warn: float | None = None
    spent: float = 0.0
    reserved: float = 0.0
    is_warned: bool = False
    is_asked: bool = False

    @property
    def warns_at(self) -> float | None:
        """The dollars at which it warns; None if it never does."""
        if self.warn is not None or self.limit is None:
            return self.warn
        return self.limit * WARN_SHARE

    @property
    def is_spent(self) -> bool:
        """Whether it is used up, whatever running agents may still cost."""
        return self.limit is not None and self.limit - self.spent < _NOTHING

    @property
    def room(self) -> float | None:
        """The dollars that another run may cost; None without a limit."""
        return None if self.limit is None else self.limit - self.spent - self.reserved

    @property
    def has_room(self) -> bool:
        """Whether another run may start."""
        return self.room is None or self.room >= _NOTHING

    @property
    def is_of_day(self) -> bool:
        """Whether it is that of a day, and not of a requirement."""
        return self.scope.startswith(_OF_DAY)

    @property
    def must_warn(self) -> bool:
        """Whether it warns now."""
        return not self.is_warned and self.warns_at is not None and self.spent >= self.warns_at

    @property
    def name(self) -> str:
        """The budget among those that hold a requirement, which are requirements otherwise."""
        return f"budget of {self.scope.removeprefix(_OF_DAY)}"

    @property
    def used(self) -> str:
        """How much of it is spent, in words."""
        limit = "" if self.limit is None else f" of {dollars(self.limit)}"
        return f"{dollars(self.spent)}{limit}"


def scope_of_day(at: datetime) -> str:
    """The scope of the budget of that day, in UTC."""
    return f"{_OF_DAY}{at.astimezone(UTC):%Y-%m-%d}"


def beginning_of_day(at: datetime) -> datetime:
    """When that day began, in UTC."""
    return datetime.combine(at.astimezone(UTC).date(), time(), UTC)


def end_of_day(at: datetime) -> datetime:
    """When the next day begins, in UTC."""
    return beginning_of_day(at) + timedelta(days=1)


def highest(run: RunBudget, budgets: tuple[Budget, ...]) -> float | None:
    """What a run that starts now may cost at most: what is reserved for it.

    No more than there is room for; None if nothing says what it costs.
    """
    own = run.most if run.most is not None else run.expected
    rooms = [budget.room for budget in budgets if budget.room is not None]
    return None if own is None else min((own, *rooms))


def is_spent(budget: Budget, number: str) -> str:
    """Why nothing starts until a human has raised the budget, and how that is said."""
    command = raising(budget, number)
    if budget.is_of_day:
        return (
            f"The {budget.name} is spent: {budget.used}. Work continues with the next day (UTC), or"
            f" once the budget is raised: {command}"
        )
    return f"The {budget.name} is spent: {budget.used}. Raise it to continue: {command}"


def awaits_room(budget: Budget) -> str:
    """Why nothing starts until a running agent has ended."""
    return (
        f"The {budget.name} has no room: {budget.used} are spent, and running agents may cost"
        f" another {dollars(budget.reserved)}. It waits until one has ended."
    )


def warns(budget: Budget) -> str:
    """What is said once, before anything is stopped."""
    return f"The {budget.name} is nearly spent: {budget.used}."


def raising(budget: Budget, number: str) -> str:
    """The command that raises the budget; a requirement's own is named by its scope."""
    whose = f"{number} raise-budget --day" if budget.is_of_day else f"{budget.scope} raise-budget"
    return f"python starter.py decide {whose} --usd AMOUNT"
