"""The deadlines of running stages, and how they are moved."""

import asyncio

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.runs import RunActivities
    from pipeline.errors import RefusedInput
    from pipeline.model import Extension, ExtensionRequest
    from pipeline.steering import check_extension, check_note
    from workflows import options
    from workflows.accepting import accept
    from workflows.execution import Execution


class Deadlines:
    """Moves deadlines one at a time: each extension counts on those before it."""

    def __init__(self, execution: Execution) -> None:
        self._execution = execution
        self._board = execution.board
        self._turn = asyncio.Lock()

    def check(self, request: ExtensionRequest) -> None:
        """Raises: RefusedInput for an extension of what does not run."""
        check_note(request.reason)
        self._execution.check_under_way()
        check_extension(self._board, request.stage, request.minutes)

    async def extend(self, request: ExtensionRequest) -> str:
        """Move the deadline of a running stage; returns the run that it belongs to."""
        async with self._turn:
            accept(lambda: self._check_in_turn(request))
            attempt = self._board.cards[request.stage].attempt
            extension = self._extension(request, attempt)
            await self._execution.do(
                RunActivities.extend_run,
                extension,
                **options.on_host(
                    self._execution.host,
                    f"Extend {request.stage} by {request.minutes:g} minutes",
                ),
            )
            self._board.extend(request.stage, attempt, request.minutes)
            return extension.run_id

    def _check_in_turn(self, request: ExtensionRequest) -> None:
        """Not the validator's to see: an extension before it may still be under way."""
        self.check(request)
        if request.counted_from not in (None, self._board.deadline_after(request.stage, 0)):
            raise RefusedInput(f"The deadline of {request.stage} has been moved meanwhile.")

    def _extension(self, request: ExtensionRequest, attempt: int) -> Extension:
        ref = self._execution.ref
        return Extension(
            run_id=f"{ref.key}/{request.stage}/{attempt}",
            ref=ref,
            stage=request.stage,
            minutes=request.minutes,
            deadline=self._board.deadline_after(request.stage, request.minutes),
            who=request.who,
            reason=request.reason,
        )
