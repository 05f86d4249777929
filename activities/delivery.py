"""Delivery: the target moves to the verified commit, or nothing does; then the host is cleaned.

By `[delivery]` of the agents file the work may get a branch of its own instead, and a pull request.
"""

import asyncio
import logging
from dataclasses import replace

from temporalio import activity

from activities.persistence import letting_others_deliver, notify_others, shielded, subscriber
from pipeline.delivery_report import delivery_report
from pipeline.delivery_settings import DeliveryMode, DeliverySettings, delivery_branch
from pipeline.errors import DependencyUnavailable, GitFailed, ProjectRefused
from pipeline.failures import cut
from pipeline.model import (
    BranchOrder,
    Delivered,
    DeliveryOutcome,
    DeliveryRequest,
    DeliveryState,
    Failure,
    FailureKind,
    Head,
    Hold,
    Leftover,
    MergeResult,
    PullRequestOrder,
    RequirementRef,
)
from pipeline.plan_rules import DELIVER
from pipeline.ports import HostPorts
from pipeline.triage import conflict_owner

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 60.0
"""How often a failed clean-up is repeated: its cause lasts a while."""


class DeliveryActivities:
    """Moves target branches of this host's project and cleans up after requirements."""

    def __init__(self, ports: HostPorts) -> None:
        self._ports = ports

    @activity.defn
    async def take_turn(self, request: DeliveryRequest) -> DeliveryOutcome:
        """Take the requirement's turn at its target, and merge in what the target has by then.

        What is verified with the turn in hand is what is delivered, unless somebody else moves the
        target. If the gate or another requirement holds it, the outcome says so.
        """
        if hold := await self._hold(request, is_verified=False):
            return DeliveryOutcome(DeliveryState.HELD, None, self._ports.parallel, hold=hold)
        try:
            merge = await self._merge_target(request)
        except ProjectRefused as refusal:
            return self._refused(FailureKind.DELIVERY, str(refusal), _commit(request))
        return self._merged(request, merge, DeliveryState.READY)

    @activity.defn
    async def leave_line(self, ref: RequirementRef) -> None:
        """Let others deliver: the requirement needs a repair, or somebody's answer."""
        await self._ports.store.leave_line(ref.number, keeps_place=False)
        await notify_others(self._ports)

    @activity.defn
    async def deliver(self, request: DeliveryRequest) -> DeliveryOutcome:
        """Try one compare-and-swap of the target; merge the target in if it has moved.

        In the other modes the work gets a branch of its own instead, and a pull request. While
        something holds the requirement, or its turn is gone, nothing is moved: the outcome says
        what. A refusal (a dirty target, a conflict, a push) is a failure in the outcome, not an
        error.
        """
        try:
            # A worker that died may have moved the target already.
            request = await self._sealed(request)
            is_open = request.head is None or not await self._ports.project.holds(
                request.target_branch, request.head.commit
            )
            if is_open and (hold := await self._hold(request, is_verified=True)):
                return DeliveryOutcome(DeliveryState.HELD, None, self._ports.parallel, hold=hold)
            if request.head is None:
                return DeliveryOutcome(DeliveryState.DELIVERED, None, self._ports.parallel)
            if is_open and self._settings.mode is not DeliveryMode.FAST_FORWARD:
                return await self._publish(request, request.head)
            # Git stopped half-way would leave the user's checkout broken.
            return await shielded(self._deliver(request, request.head))
        except ProjectRefused as refusal:
            return self._refused(FailureKind.DELIVERY, str(refusal), _commit(request))

    @activity.defn
    async def merge_target(self, request: DeliveryRequest) -> DeliveryOutcome:
        """Merge the target into the integration branch, as `deliver` does; it does not move."""
        try:
            return self._merged(request, await self._merge_target(request))
        except ProjectRefused as refusal:
            return self._refused(FailureKind.DELIVERY, str(refusal), _commit(request))

    @activity.defn
    async def release(self, ref: RequirementRef) -> None:
        """End what still runs, remove the requirement's clones; branches and kept refs stay.

        A run may live on although its activity is gone: its worker was killed before the cancel.
        """
        await clean_up(self._ports, ref)

    async def _hold(self, request: DeliveryRequest, *, is_verified: bool) -> Hold | None:
        """What holds the delivery; notifies those who may deliver meanwhile."""
        ports, number = self._ports, request.ref.number
        if self._settings.mode is not DeliveryMode.FAST_FORWARD:
            # Nobody else moves that branch, so that nobody is waited for.
            request = replace(request, target_branch=_branch(request))
        async with letting_others_deliver(ports, number):
            ports.readiness.check()
            hold = await ports.store.pass_delivery(
                request, subscriber(), ports.repository or ports.host, is_verified=is_verified
            )
            await ports.publish(number)
        if hold:
            await notify_others(ports)
        return hold

    async def _merge_target(self, request: DeliveryRequest) -> MergeResult:
        return await self._ports.project.merge_target(request.ref.number, request.target_branch)

    async def _deliver(self, request: DeliveryRequest, head: Head) -> DeliveryOutcome:
        number, target, project = request.ref.number, request.target_branch, self._ports.project
        if not await project.swap_target(number, target, head.commit):
            merge = await self._merge_target(request)
            is_ours = await self._ports.store.is_delivery(merge.commit)
            return replace(self._merged(request, merge), is_foreign=not is_ours)
        before = await project.before(number)
        mode = str(DeliveryMode.FAST_FORWARD)
        return await self._delivered(
            number, head, Delivered(mode, target, target, before, head.commit)
        )

    async def _publish(self, request: DeliveryRequest, head: Head) -> DeliveryOutcome:
        """Make the branch, push it and ask for it to be merged; what was done is found again."""
        number, target, project = request.ref.number, request.target_branch, self._ports.project
        mode, branch, commit = self._settings.mode, _branch(request), head.commit
        is_request = mode is DeliveryMode.PULL_REQUEST
        remote = await project.publish(
            BranchOrder(
                number, branch, commit, target, self._settings.remote, needs_remote=is_request
            )
        )
        link = ""
        if is_request:
            facts = await self._ports.store.delivery_facts(number)
            title, body = f"{number}: {request.title}", delivery_report(facts, commit)
            link = await self._ports.forge.open(
                PullRequestOrder(number, title, branch, target, remote, body, request.attempt)
            )
        before = await project.before(number)
        delivered = Delivered(str(mode), target, branch, before, commit, remote, link)
        return await self._delivered(number, head, delivered)

    async def _delivered(self, number: str, head: Head, delivered: Delivered) -> DeliveryOutcome:
        left = ""
        try:
            await self._ports.project.release(number)
            await self._ports.project.forget_merged(number, head.commit)
        except (ProjectRefused, GitFailed, OSError) as error:
            # It is delivered: what remains in our own directories cannot undo that.
            log.error("[%s] Delivered, but not everything was cleaned up: %s", number, error)
            left = str(error)
        return DeliveryOutcome(
            DeliveryState.DELIVERED,
            head,
            self._ports.parallel,
            left=left,
            delivered=delivered,
        )

    async def _sealed(self, request: DeliveryRequest) -> DeliveryRequest:
        """The request, with one merge commit of the verified files if that is asked for."""
        head = request.head
        if head is None or not self._settings.merge_commit:
            return request
        commit = await self._ports.project.seal(
            request.ref.number, request.target_branch, head.commit, request.title
        )
        return (
            request
            if commit == head.commit
            else replace(request, head=Head(commit, head.position + 1))
        )

    @property
    def _settings(self) -> DeliverySettings:
        return self._ports.agents().delivery

    def _merged(
        self,
        request: DeliveryRequest,
        merge: MergeResult,
        state: DeliveryState = DeliveryState.MOVED,
    ) -> DeliveryOutcome:
        if not merge.conflicts:
            return DeliveryOutcome(state, merge.head, self._ports.parallel)
        error = (
            f"{request.target_branch} has moved and conflicts in {', '.join(merge.conflicts)}. "
            f"Merge {merge.commit} into your work and resolve it."
        )
        places = self._ports.agents().build_directories
        owners = conflict_owner(merge.conflicts, request.builders, places)
        return self._refused(FailureKind.CONFLICT, error, merge.commit, owners)

    def _refused(
        self, kind: FailureKind, error: str, commit: str, owners: tuple[str, ...] = ()
    ) -> DeliveryOutcome:
        failure = Failure(DELIVER, kind, DELIVER, owners, cut(error), commit=commit)
        return DeliveryOutcome(DeliveryState.REFUSED, None, self._ports.parallel, failure)


async def clean_up(ports: HostPorts, ref: RequirementRef) -> None:
    """End an execution's runs on this host and remove its clones; a repeat is harmless.

    What runs have cost is recorded here, since no stage will close them any more. It is recorded
    last: while the database is down everything else is done.
    """
    results = await ports.runs.end_all(ref.key)
    try:
        if ports.workspaces:
            await ports.workspaces.release(ref.number)
    finally:
        await ports.store.record_ends(ref.number, results, ports.host)


async def clean_leftovers(ports: HostPorts, interval: float = INTERVAL_SECONDS) -> None:
    """Clean up what ended requirements left on this host: at once, then at intervals, for ever."""
    while True:
        await clean_once(ports)
        await asyncio.sleep(interval)


async def clean_once(ports: HostPorts) -> None:
    """Clean up what requirements left that have ended, or that another host continues."""
    try:
        for leftover in await ports.store.leftovers(ports.host):
            await _clean(ports, leftover)
    except DependencyUnavailable as error:
        log.warning("What ended requirements left waits: %s", error)


async def _clean(ports: HostPorts, leftover: Leftover) -> None:
    """Try once and record why it failed; the others do not wait for it."""
    number, reason = leftover.ref.number, ""
    try:
        await clean_up(ports, leftover.ref)
    except DependencyUnavailable:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        log.warning("[%s] It cannot be cleaned up yet: %s", number, reason)
    await ports.store.note_leftover(number, reason, ports.host)
    await ports.publish(number)


def _branch(request: DeliveryRequest) -> str:
    return delivery_branch(request.ref.number, request.title)


def _commit(request: DeliveryRequest) -> str:
    return request.head.commit if request.head else ""
