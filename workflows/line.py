"""Waiting at the P0 gate, woken by its epoch."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pipeline.model import Hold
    from workflows import options


class Line:
    """What a workflow has heard of the gate: its latest epoch, never an older one."""

    def __init__(self) -> None:
        """Start without news."""
        self._epoch = 0

    def release(self, epoch: int) -> None:
        """Take in a signalled epoch; one may come before the hold that it ends."""
        self._epoch = max(self._epoch, epoch)

    async def wait(self, hold: Hold) -> None:
        """Wait until it is worth trying again: woken, or after a while in case a wake was lost."""
        held: timedelta = workflow.now() - hold.since
        try:
            await workflow.wait_condition(
                lambda: self._epoch > hold.epoch,
                timeout=options.hold_check(held),
                timeout_summary=f"{hold.boundary} is held by {', '.join(hold.by)}",
            )
        except TimeoutError:
            return
