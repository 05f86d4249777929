"""Fixes: their rows, their merges, what a round of them achieved."""

from temporalio import activity

from pipeline.failures import cut
from pipeline.model import (
    Failure,
    FailureKind,
    FixMerge,
    FixMerged,
    FixOpening,
    MergeResult,
    RequirementRef,
    RoundResults,
    Traces,
)
from pipeline.ports import HostPorts


class FixActivities:
    """Records fixes and merges their work."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def open_fixes(self, opening: FixOpening) -> None:
        """Write the rows of fixes before their workflows start."""
        await self._ports.store.open_fixes(opening)

    @activity.defn
    async def merge_fix(self, merge: FixMerge) -> FixMerged:
        """Merge a fix into its requirement's integration branch; a conflict is its owner's.

        Raises: DependencyUnavailable, ProjectMissing, ProjectRefused.
        """
        result = await self._ports.project.merge_fix(merge.root.number, merge.fix.number)
        failure = _unmerged(merge, result)
        head = None if failure else result.head
        merged = FixMerged(head, self._ports.parallel, failure)
        await self._ports.store.merge_fix(merge, merged)
        return merged

    @activity.defn
    async def read_traces(self, ref: RequirementRef) -> Traces:
        """What an orchestrator that somebody ended left in project and database."""
        attempts = await self._ports.store.attempts(ref.number)
        project = self._ports.workspaces
        head = (await project.open(ref.number))[0] if project else None
        return Traces(head, tuple(attempts.items()))

    @activity.defn
    async def apply_fixes(self, results: RoundResults) -> None:
        """Resolve the failures that are green; the requirement continues if none is left."""
        await self._ports.store.apply_results(results)
        await self._ports.publish(results.ref.number)


def _unmerged(merge: FixMerge, result: MergeResult) -> Failure | None:
    if not (result.conflicts or result.refusal):
        return None
    conflict = (
        f"{merge.fix.number} conflicts in {', '.join(result.conflicts)} with what was merged "
        f"meanwhile. What it did is commit {merge.commit}."
    )
    return Failure(
        stage=merge.fix.stage,
        kind=FailureKind.CONFLICT,
        gate=f"merge {merge.fix.number}",
        owners=(merge.fix.owner,),
        error=cut(result.refusal or conflict),
        commit=merge.commit,
    )
