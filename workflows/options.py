"""How each kind of activity is called: queue, time-outs, retries. Every number with its reason."""

from datetime import timedelta

from temporalio import workflow
from temporalio.common import (
    RetryPolicy,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
    WorkflowIDReusePolicy,
)
from temporalio.workflow import (
    ActivityCancellationType,
    ActivityConfig,
    ChildWorkflowCancellationType,
    ChildWorkflowConfig,
    LocalActivityConfig,
    ParentClosePolicy,
    unsafe,
)

with unsafe.imports_passed_through():
    from pipeline.installation import Queues
    from pipeline.model import Priority, RequirementOrder, RequirementState, StageRequest


_OPEN = "Find a host and open the requirement"


def queues() -> Queues:
    """The queues of the installation that the workflow belongs to: it runs on their central one.

    Replay-safe: the queue of a workflow never changes, and names of queues are not replayed.
    """
    return Queues(workflow.info().task_queue)


# A lost worker is noticed by the heartbeat; 0.1 s to the next try keeps the resume within 5 s.
# Tries are unlimited: every activity is idempotent, and only its typed refusals are final.
_RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=100),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=10),
)

# The deadline belongs to the run. An activity may also be queued for a slot, for days.
_UNBOUNDED = timedelta(days=365)

# One database transaction and a publish: a minute is an outage, and the next try may find it over.
_BRIEF = timedelta(minutes=1)


# A notification is repeated until it is out; this is for the case that nobody was left to send it.
# Each further look waits as long as the hold has lasted: a month costs a hundred looks.
_HOLD_CHECKS = (timedelta(minutes=5), timedelta(hours=6))

HELD_AGAIN = timedelta(seconds=10)
"""What is still held says so within milliseconds, over a slow database within this."""

# An outage may end without anybody's doing, and a look costs one refused connection.
_OUTAGE_CHECKS = (timedelta(minutes=1), timedelta(hours=1))


def hold_check(held: timedelta, *, is_outage: bool) -> timedelta:
    """When a workflow that has been held so long looks again without a notification."""
    first, last = _OUTAGE_CHECKS if is_outage else _HOLD_CHECKS
    return min(max(held, first), last)


_RESET_MARGIN = timedelta(seconds=2)
"""A limit is over a moment after its program says so, and clocks differ."""


def until_check(left: timedelta) -> timedelta:
    """When a workflow that is held for a stated time looks again; the time may be moved."""
    return min(max(left, timedelta()) + _RESET_MARGIN, _HOLD_CHECKS[1])


STOP_PATIENCE = timedelta(seconds=36)
"""Cancelled, a requirement waits no longer for what it runs: `cancel` ends within a minute."""
FIX_STOP_PATIENCE = timedelta(seconds=20)
"""A fix ends within the time that its requirement waits for it; an agent has 15 s of grace."""
_RELEASE_PATIENCE = timedelta(seconds=14)
HANDLERS_PATIENCE = timedelta(seconds=3)
"""An answer that is being recorded comes before the end, unless it hangs."""

# Nobody can be asked about what cannot be written down: it is tried again, ever more seldom.
FAULT_PAUSES = (timedelta(minutes=1), timedelta(hours=1))


# The wait for a dependency is inside the activity; only a lost worker must be noticed.
_LASTING_HEARTBEAT = timedelta(seconds=10)

# Longer than the longest action, a configured restart of at most 60 s and its end.
_CARE_TIME = timedelta(minutes=2)

# A host whose worker does not take a look by then has none: it can be remediated when it is back.
_CARE_PATIENCE = timedelta(seconds=30)


def central(summary: str) -> ActivityConfig:
    """Database and NATS."""
    return ActivityConfig(
        task_queue=queues().central,
        start_to_close_timeout=_BRIEF,
        retry_policy=_RETRY,
        summary=summary,
    )


def lasting(summary: str) -> ActivityConfig:
    """Written as soon as a dependency is there again, however long that takes."""
    return ActivityConfig(
        task_queue=queues().central,
        start_to_close_timeout=_UNBOUNDED,
        heartbeat_timeout=_LASTING_HEARTBEAT,
        retry_policy=_RETRY,
        summary=summary,
    )


def care(place: str, summary: str) -> ActivityConfig:
    """A look at, or an action on, the cluster or a host; not repeated: a later look will be.

    A worker that is lost meanwhile is noticed by its silence.
    """
    return ActivityConfig(
        task_queue=queues().host(place) if place else queues().central,
        schedule_to_start_timeout=_CARE_PATIENCE,
        start_to_close_timeout=_CARE_TIME,
        heartbeat_timeout=_LASTING_HEARTBEAT,
        retry_policy=RetryPolicy(maximum_attempts=1),
        summary=summary,
    )


def watch(place: str, patience: timedelta, summary: str) -> ActivityConfig:
    """Looks at a place for that long; another worker continues if one is lost meanwhile."""
    config = care(place, summary)
    config["start_to_close_timeout"] = patience + _CARE_TIME
    config["retry_policy"] = RetryPolicy(maximum_attempts=3)
    return config


def record(summary: str) -> LocalActivityConfig:
    """Brief bookkeeping in the same workflow task: one marker instead of six events."""
    return LocalActivityConfig(start_to_close_timeout=_BRIEF, retry_policy=_RETRY, summary=summary)


def opening(order: RequirementOrder) -> ActivityConfig:
    """Waits for a host with room; a P0 only for a host."""
    is_urgent = order.priority is Priority.P0
    return _long(queues().urgent if is_urgent else queues().opening, order, _OPEN)


def stage(host: str, order: RequirementOrder, request: StageRequest) -> ActivityConfig:
    """Runs an agent; the activity id is a stable name for people who look at it from outside."""
    again = f", attempt {request.attempt}" if request.attempt > 1 else ""
    summary = f"{request.stage.agent} works on {request.stage.name}{again}"
    config = _long(queues().agents(host), order, summary)
    config["activity_id"] = f"{request.stage.name} {request.attempt}"
    return config


def waiting(host: str, order: RequirementOrder, request: StageRequest) -> ActivityConfig:
    """Waits for a slot, mostly in Temporal's queue."""
    return _long(
        queues().waiting(host), order, f"{request.stage.name} is queued for a slot on {host}"
    )


def on_host(host: str, summary: str) -> ActivityConfig:
    """Steers agents of a host: nothing that runs or waits there is waited for."""
    return ActivityConfig(
        task_queue=queues().host(host),
        start_to_close_timeout=_BRIEF,
        retry_policy=_RETRY,
        summary=summary,
    )


def tools(host: str, order: RequirementOrder, summary: str) -> ActivityConfig:
    """Runs git and builds."""
    return _long(queues().tools(host), order, summary)


def release(host: str, order: RequirementOrder, *, is_hasty: bool) -> ActivityConfig:
    """Ends and removes what a requirement has on its host; builds of others do not delay it.

    In haste, what could not be done in time is left to the host, which tries again.
    """
    config = _long(queues().host(host), order, "Clean up what it has left on its host")
    if is_hasty:
        config["schedule_to_close_timeout"] = _RELEASE_PATIENCE
        config["cancellation_type"] = ActivityCancellationType.TRY_CANCEL
    return config


def search_attributes(order: RequirementOrder) -> TypedSearchAttributes:
    """What a requirement, or a fix, is found by from its start, where the server knows it."""
    values = {
        "ReqNumber": order.number,
        "Priority": str(order.priority),
        "DeliveryStatus": str(RequirementState.ACCEPTED),
    }
    return TypedSearchAttributes(
        [
            SearchAttributePair(SearchAttributeKey.for_keyword(name), value)
            for name, value in values.items()
            if name in order.search_attributes
        ]
    )


def child(
    name: str, summary: str, attributes: TypedSearchAttributes | None = None
) -> ChildWorkflowConfig:
    """A workflow below another one; its id is used once."""
    return ChildWorkflowConfig(
        id=name,
        task_queue=queues().central,
        # Asked to end, it ends its agents first; terminated with its parent it would leave them.
        parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
        cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        static_summary=summary,
        search_attributes=attributes,
    )


def abandoned(name: str, summary: str) -> ChildWorkflowConfig:
    """A workflow that outlives the one that starts it; its id is used once."""
    return ChildWorkflowConfig(
        id=name,
        task_queue=queues().central,
        parent_close_policy=ParentClosePolicy.ABANDON,
        cancellation_type=ChildWorkflowCancellationType.ABANDON,
        id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
        static_summary=summary,
    )


def _long(queue: str, order: RequirementOrder, summary: str) -> ActivityConfig:
    config = ActivityConfig(
        task_queue=queue,
        start_to_close_timeout=_UNBOUNDED,
        retry_policy=_RETRY,
        # The workflow waits until the processes have ended: nothing is left behind a cancellation.
        cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        summary=summary,
    )
    if order.heartbeat:
        config["heartbeat_timeout"] = order.heartbeat
    return config
