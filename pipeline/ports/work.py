"""Where the work is done: agents, the project's repository, its builds."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Protocol

from pipeline.lost_hosts import Moving
from pipeline.model import (
    BranchOrder,
    BuildRequest,
    BuildResult,
    Head,
    MergeResult,
    Preparation,
    ProjectId,
    PullRequestOrder,
    RunOrder,
    RunResult,
    RunStart,
    SlotRequest,
    SlotUsage,
    StageContext,
    StageRequest,
    Undo,
)
from pipeline.prompt import Prompt

StartListener = Callable[[RunStart], Awaitable[None]]
"""Is told when an agent was really started."""


class AgentRuns(Protocol):
    """The agents of this host, and its slots: the right to have one living agent each."""

    async def next_part(self, run_id: str) -> int | None:
        """Which part of the run is to be started: 0 is its agent, from 1 on its session is resumed.

        None if the agent was started, or is about to be: it is never started again.
        """

    def slot(self, request: SlotRequest) -> AbstractAsyncContextManager[bool]:
        """Hold a slot to start the run with, for the block; False if none is free.

        Another caller for the same run waits until the block has ended. A run that was
        started in it keeps the slot.
        """

    async def queue(self, request: SlotRequest) -> None:
        """Note that the run waits for a slot; less urgent ones make way for it."""

    async def wait_for_slot(self, request: SlotRequest) -> None:
        """Wait until a slot is kept for the run, which is then to be taken.

        It may also return without one: who is more urgent needs the place, or nothing is to be
        started any more. Then ask again.
        """

    def queue_place(self, run_id: str) -> tuple[int, SlotUsage]:
        """The place of the run among those who wait on this host, and how many slots are used."""

    def usages(self) -> AsyncIterator[SlotUsage]:
        """How many slots are used, whenever it changes while somebody waits for one."""

    async def let_resume(self, run_id: str, parts: int) -> None:
        """Let the session of a run that was cut off after so many parts go on: `start` does that.

        If another caller was faster, nothing changes.
        """

    async def start(self, order: RunOrder) -> bool:
        """Start the run with the slot that is held, or resume its session where that is to go on.

        False if its execution is suspended by now.
        """

    async def until_resumed(self, run_id: str) -> None:
        """Return when the run's execution has no order to be suspended."""

    async def until_suspended(self, run_id: str) -> None:
        """Return when the run's execution has an order to be suspended."""

    async def attach(self, request: SlotRequest, on_start: StartListener) -> RunResult:
        """Wait for the end of a run that was started.

        `on_start` is awaited if the run is found living, and once more if its session becomes known
        later. Cancelled, it leaves the agent alone.
        """

    async def end(self, run_id: str) -> RunResult:
        """End the run's processes, all of them, and record it as cancelled.

        Returns how it has ended, without its output.
        """

    async def end_all(self, key: str) -> Mapping[str, RunResult]:
        """End every run of an execution: also those that no activity is attached to any more.

        Returns how each run that this host knows has ended, by run id, without its output.
        """

    async def extend(self, run_id: str, deadline: timedelta) -> None:
        """Set the run's deadline, counted from its start; its suspensions do not count.

        Raises: UnknownRequirement if it is not running.
        """

    async def suspend(self, key: str) -> tuple[str, ...]:
        """Suspend every run of an execution (`REQ/workflow run`) until it is resumed.

        Its agents' processes are stopped, its deadlines do not come nearer, its slots are given
        back, and none of its runs starts. Returns the ids of the living runs that are suspended.
        """

    async def resume(self, key: str) -> tuple[str, ...]:
        """Let the runs of an execution continue, each as soon as it has a slot again.

        Returns the ids of the living runs that was suspended.
        """


class Prompts(Protocol):
    """What the agents of this host are told."""

    async def prepare(self, request: StageRequest, context: StageContext, worktree: str) -> Prompt:
        """The prompt, once the documents that it names lie where the agent can read them.

        It is asked with the clone at `request.head`, before the agent is started. Raises:
        RefusedInput for a file of the user's that cannot be read.
        """


class Workspaces(Protocol):
    """The project's git repository, worked on in clones of our own.

    Raises, everywhere: ProjectRefused if the repository cannot be worked on.
    """

    async def open(
        self, number: str, base: str = "", target: str = "", undo: Undo | None = None
    ) -> tuple[Head, str]:
        """Create the integration branch; returns its tip and the target branch.

        The target is `target`, or else the branch that is checked out. A fix starts at its
        requirement's commit `base` and has no target. With `undo` the tip is a commit that takes
        that back.
        """

    async def check_is(self, project: ProjectId) -> None:
        """Raises: OtherProject if this repository is neither that one nor a clone elsewhere."""

    async def head(self, number: str, commit: str = "") -> Head:
        """The tip of the integration branch at this moment, or that commit on it."""

    async def prepare(self, request: StageRequest) -> str:
        """A fresh clone for the attempt at `request.head`; the same one when asked again.

        It is asked only before the attempt's agent was started. One that stands at another commit,
        or was prepared by half, is made again: a start that a crash has cut short left it.
        """

    async def discard(self, request: StageRequest) -> None:
        """Remove the clone of an attempt whose agent was never started."""

    async def last_author(self, number: str, commit: str, paths: Sequence[str]) -> str:
        """The agent whose work in this requirement changed one of these files last, if any did."""

    async def integrate(self, request: StageRequest, summary: str) -> MergeResult:
        """Commit the clone's files and merge them into the integration branch."""

    async def keep(self, request: StageRequest) -> str:
        """Commit what an unsuccessful attempt left to a kept ref, remove its clone; the ref."""

    async def checkout_build(self, number: str, build: str, commit: str, *, clean: bool) -> str:
        """The build's clone at the commit: made again if `clean`, else ignored files are kept."""

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

    async def seal(self, number: str, target_branch: str, commit: str, title: str) -> str:
        """One merge commit `REQ-103: title` with the files of `commit`, to be delivered instead.

        Without a target that `commit` contains, or that contains it, the commit itself; a repeat
        gives the same one.
        """

    async def publish(self, order: BranchOrder) -> str:
        """Place a branch at the commit and push it; the remote, empty if there is none.

        A repeat finds what is done. Raises: ProjectRefused in git's own words if it is somebody
        else's or cannot be pushed; it is kept then, and named.
        """

    async def before(self, number: str) -> str:
        """The target's commit that the requirement's work stands on."""

    async def share(self, numbers: Sequence[str] = ()) -> None:
        """Push those requirements to where other hosts reach them, and what failed before."""

    async def take_over(self, what: Moving) -> None:
        """Have all that a lost host has shared of a requirement, to continue it here.

        Raises: HostLost in the words for a human if something is missing.
        """

    async def release(self, number: str) -> None:
        """Remove the requirement's clones; branches and kept refs stay."""

    async def forget_merged(self, number: str, commit: str) -> None:
        """Remove branches of stages and fixes whose work is in the delivered commit."""


class PullRequests(Protocol):
    """Makes pull requests by the command of the agents file."""

    async def open(self, order: PullRequestOrder) -> str:
        """Make it, once; what the command printed of it, most likely its address.

        It is looked for first. Raises: ProjectRefused in the command's own words.
        """


class Builds(Protocol):
    """The project's own build commands."""

    async def prepare(
        self, request: StageRequest, names: Sequence[str], directory: str
    ) -> Preparation | None:
        """Prepare those builds in an agent's clone, until one is red; None if that was done before.

        A cancelled call ends what it has started first.
        """

    async def run(self, request: BuildRequest, directory: str) -> BuildResult:
        """Prepare if needed and build in that checkout (empty: simulated), bounded in time.

        What `request` asks to be clean is prepared in any case.
        """
