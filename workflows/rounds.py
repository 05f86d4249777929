"""Rounds: one gather over every stage that waits, then the delivery."""

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from pipeline.model import RequirementState
    from pipeline.repairs import unblock
    from workflows.crew import Crew
    from workflows.delivery import Delivery
    from workflows.execution import Execution
    from workflows.gates import BuildGates
    from workflows.stages import StageRunner


class Rounds:
    """Runs what can run, as often as answers reopen something."""

    def __init__(self, execution: Execution, gates: BuildGates) -> None:
        self._execution = execution
        self._board = execution.board
        self._gates = gates
        self._crew = Crew(execution, StageRunner(execution, gates))
        self._delivery = Delivery(execution, gates)

    async def run(self) -> bool:
        """One round; whether it ended with the delivery."""
        self._execution.stop_if_over()
        await self.run_stages()
        return self._board.is_green() and await self._delivery.run()

    async def run_stages(self) -> None:
        """Everything that can run, until nothing does."""
        if self._board.waiting():
            self._execution.display.show(RequirementState.RUNNING)
        await self._crew.run()
        while unblock(self._board):  # a build was red, and is green on what was merged since
            await self._crew.run()

    def start_waiting(self) -> None:
        """Let an answer take effect at once, whatever else is going on."""
        self._crew.start_waiting()

    async def cancel(self) -> None:
        """Cancel whatever runs and wait for its end."""
        await self._crew.cancel()
        await self._gates.settle()
