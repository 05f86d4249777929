"""Waiting for what holds a requirement: the P0 gate, woken by its epoch, or a dependency."""

from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

with workflow.unsafe.imports_passed_through():
    from activities.sasha import SashaActivities
    from pipeline.errors import DependencyUnavailable
    from pipeline.model import Hold, SashaCall
    from workflows import options


class Line:
    """What a workflow has heard: the gate's latest epoch, and repairs of each dependency."""

    def __init__(self) -> None:
        self._epoch = 0
        self.turns = 0
        """How often it was said that it may be the requirement's turn to deliver."""
        self._repairs: dict[str, int] = {}

    def release(self, epoch: int) -> None:
        """Take in a signalled epoch; one may come before the hold that it ends."""
        self._epoch = max(self._epoch, epoch)

    def turn(self) -> None:
        """It may be the requirement's turn to deliver."""
        self.turns += 1

    def repaired(self, dependency: str) -> None:
        """The dependency is there again."""
        self._repairs[dependency] = self._repairs.get(dependency, 0) + 1

    async def wait(self, hold: Hold, host: str, turns: int | None = None) -> None:
        """Wait until it is worth trying again: woken, or after a while in case a wake was lost.

        `turns` is the count before the try that was held, where a turn to deliver may end it.
        """
        repairs = self._repairs.get(hold.dependency, 0)
        if hold.dependency:
            await _call_sasha(hold.dependency, host)
        held: timedelta = workflow.now() - hold.since
        try:
            await workflow.wait_condition(
                lambda: self._is_over(hold, repairs, turns),
                timeout=options.hold_check(held, is_outage=bool(hold.dependency)),
                timeout_summary=f"{hold.boundary} is held by {', '.join(hold.by)}",
            )
        except TimeoutError:
            return

    def _is_over(self, hold: Hold, repairs: int, turns: int | None) -> bool:
        if hold.dependency:
            return self._repairs.get(hold.dependency, 0) > repairs
        has_turn = turns is not None and self.turns > turns
        return has_turn or self._epoch > hold.epoch


def hold_of(error: ActivityError, boundary: str, since: datetime) -> Hold | None:
    """The hold that a missing dependency causes; None for every other error."""
    match error.cause:
        case (
            ApplicationError(type=DependencyUnavailable.__name__, details=[str(dependency)]) as away
        ):
            return Hold(boundary, (dependency,), away.message, 0, since, dependency)
    return None


async def _call_sasha(dependency: str, host: str) -> None:
    caller = workflow.info().workflow_id
    await workflow.execute_activity_method(
        SashaActivities.call_sasha,
        SashaCall(host, dependency, caller),
        **options.central(f"Call Sasha: {dependency} is away"),
    )
