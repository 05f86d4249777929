"""Delivery: the target branch moves to the verified commit, or nothing moves."""

import logging

from temporalio import activity

from activities.cleaning import clean_up
from activities.uninterrupted import to_the_end
from activities.waiting import waiter
from pipeline.conflicts import conflict_owner
from pipeline.errors import GitFailed, ProjectRefused
from pipeline.failures import cut
from pipeline.model import (
    DeliveryOutcome,
    DeliveryRequest,
    DeliveryState,
    Failure,
    FailureKind,
    Head,
    Hold,
    MergeResult,
    RequirementRef,
)
from pipeline.plan_rules import DELIVER
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)


class DeliveryActivities:
    """Moves target branches of this host's project and tidies up after requirements."""

    def __init__(self, ports: HostPorts) -> None:
        """Take the host's ports."""
        self._ports = ports

    @activity.defn
    async def deliver(self, request: DeliveryRequest) -> DeliveryOutcome:
        """Try one compare-and-swap of the target; merge the target in if it has moved.

        While something holds the requirement nothing is moved: the outcome says what. A refusal (a
        dirty target, a conflict) is a failure in the outcome, not an error.
        """
        try:
            if hold := await self._hold(request):
                return DeliveryOutcome(DeliveryState.HELD, None, self._ports.parallel, hold=hold)
            if request.head is None:
                return DeliveryOutcome(DeliveryState.DELIVERED, None, self._ports.parallel)
            # Stopped half-way, git would leave the user's checkout in pieces.
            return await to_the_end(self._deliver(request, request.head))
        except ProjectRefused as refusal:
            return self._refused(FailureKind.DELIVERY, str(refusal), _commit(request))

    @activity.defn
    async def merge_target(self, request: DeliveryRequest) -> DeliveryOutcome:
        """Merge the target into the integration branch, as `deliver` does; it does not move."""
        number, target = request.ref.number, request.target_branch
        try:
            return self._merged(request, await self._ports.project.merge_target(number, target))
        except ProjectRefused as refusal:
            return self._refused(FailureKind.DELIVERY, str(refusal), _commit(request))

    @activity.defn
    async def release(self, ref: RequirementRef) -> None:
        """End what still runs, remove the requirement's clones; branches and kept refs stay.

        A run may live on although its activity is gone: its worker was killed before the cancel.
        """
        await clean_up(self._ports, ref)

    async def _hold(self, request: DeliveryRequest) -> Hold | None:
        """What holds the delivery, unless a worker that died has moved the target before."""
        head = request.head
        if head and await self._ports.project.holds(request.target_branch, head.commit):
            return None
        self._ports.readiness.check()
        hold = await self._ports.store.pass_delivery(request, waiter())
        await self._ports.publish(request.ref.number)
        return hold

    async def _deliver(self, request: DeliveryRequest, head: Head) -> DeliveryOutcome:
        number, target, project = request.ref.number, request.target_branch, self._ports.project
        if not await project.swap_target(number, target, head.commit):
            return self._merged(request, await project.merge_target(number, target))
        try:
            await project.release(number)
        except (ProjectRefused, GitFailed) as error:
            # The target has moved: what remains in our own directories cannot undo that.
            log.error("[%s] Delivered, but not everything was tidied up: %s", number, error)
        return DeliveryOutcome(DeliveryState.DELIVERED, head, self._ports.parallel)

    def _merged(self, request: DeliveryRequest, merge: MergeResult) -> DeliveryOutcome:
        if not merge.conflicts:
            return DeliveryOutcome(DeliveryState.MOVED, merge.head, self._ports.parallel)
        error = (
            f"{request.target_branch} has moved and conflicts in {', '.join(merge.conflicts)}. "
            f"Merge {merge.commit} into your work and resolve it."
        )
        places = self._ports.agents.build_directories
        owners = conflict_owner(merge.conflicts, request.builders, places)
        return self._refused(FailureKind.CONFLICT, error, merge.commit, owners)

    def _refused(
        self, kind: FailureKind, error: str, commit: str, owners: tuple[str, ...] = ()
    ) -> DeliveryOutcome:
        failure = Failure(DELIVER, kind, DELIVER, owners, cut(error), commit=commit)
        return DeliveryOutcome(DeliveryState.REFUSED, None, self._ports.parallel, failure)


def _commit(request: DeliveryRequest) -> str:
    return request.head.commit if request.head else ""
