"""Where the work is done: agents, the project's repository, its builds."""

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Protocol

from pipeline.model import (
    BuildRequest,
    BuildResult,
    Head,
    MergeResult,
    RunOrder,
    RunResult,
    StageRequest,
)

StartListener = Callable[[datetime], Awaitable[None]]
"""Is told when an agent was really started."""
StartCheck = Callable[[], Awaitable[None]]
"""Is asked when an agent has waited for its turn; what it raises prevents the start."""


class AgentRuns(Protocol):
    """The agents of this host."""

    async def is_started(self, run_id: str) -> bool:
        """Whether the run's agent was started once: then it is never started again."""

    async def attach(
        self, order: RunOrder, on_start: StartListener, after_wait: StartCheck
    ) -> RunResult:
        """Find the run, starting it only if it was never started, and wait for its end.

        `on_start` is awaited once if the run is found living. Cancelled, it leaves the agent alone.

        Raises: DependencyUnavailable, or what `after_wait` raises, instead of starting it; one that
            was started is attached to.
        """

    async def end(self, run_id: str) -> None:
        """End the run's processes, all of them, and record it as cancelled."""

    async def end_all(self, key: str) -> Mapping[str, RunResult]:
        """End every run of an execution: also those that no activity is attached to any more.

        Returns how each run that this host knows has ended, by run id, without its output.
        """

    async def extend(self, run_id: str, deadline: timedelta) -> None:
        """Set the run's deadline, counted from its start; standing still does not count.

        Raises: UnknownRequirement if it is not running.
        """

    async def suspend(self, key: str) -> tuple[str, ...]:
        """Let every run of an execution (`REQ/workflow run`) stand still until it is resumed.

        Its agents' processes are stopped, its deadlines do not come nearer, its permits are given
        back, and none of its runs starts. Returns the ids of the living runs that stand still.
        """

    async def resume(self, key: str) -> tuple[str, ...]:
        """Let the runs of an execution go on, each as soon as it has a permit again.

        Returns the ids of the living runs that stood still.
        """


class Workspaces(Protocol):
    """The project's git repository, worked on in clones of our own.

    Raises, everywhere: ProjectRefused if the repository cannot be worked on.
    """

    async def open(self, number: str, base: str = "") -> tuple[Head, str]:
        """Create the integration branch; returns its tip and the target branch.

        A fix starts at its requirement's commit `base` and has no target.
        """

    async def head(self, number: str) -> Head:
        """The tip of the integration branch at this moment."""

    async def prepare(self, request: StageRequest) -> str:
        """A fresh clone for the attempt at `request.head`; the same one when asked again."""

    async def integrate(self, request: StageRequest, summary: str) -> MergeResult:
        """Commit the clone's files and merge them into the integration branch."""

    async def keep(self, request: StageRequest) -> str:
        """Commit what an unsuccessful attempt left to a kept ref, remove its clone; the ref."""

    async def checkout_build(self, number: str, build: str, commit: str, *, clean: bool) -> str:
        """The build's clone at the commit: made anew if `clean`, else ignored files are kept."""

    async def merge_fix(self, number: str, fix: str) -> MergeResult:
        """Merge what a fix has done into the integration branch of its requirement."""

    async def merge_target(self, number: str, target_branch: str) -> MergeResult:
        """Merge a moved target into the integration branch."""

    async def holds(self, target_branch: str, commit: str) -> bool:
        """Whether the target has the commit already."""

    async def swap_target(self, number: str, target_branch: str, commit: str) -> bool:
        """Fast-forward the target to the commit; False if the target has moved on.

        Raises: ProjectRefused if the target is checked out and dirty.
        """

    async def release(self, number: str) -> None:
        """Remove the requirement's clones; branches and kept refs stay."""


class Builds(Protocol):
    """The project's own build commands."""

    async def run(self, request: BuildRequest, directory: str) -> BuildResult:
        """Prepare if needed and build in that checkout (empty: simulated), bounded in time.

        What `request` asks to be clean is prepared in any case.
        """
