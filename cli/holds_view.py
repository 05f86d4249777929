"""How waiting looks: who holds it or which slot is missing, since when, and what helps."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from adapters.sdlc.views import (
    HoldView,
    LeftoverView,
    QueuedView,
    RequirementView,
    RetryView,
    StageView,
)
from cli import output
from pipeline.model import PRE_EMPTION, RequirementState, StageState

_PAST_SHOWN = 5
_SILENT = timedelta(minutes=2)
"""Two tries are at most ten seconds apart, and most fail within seconds."""


def stands_still(stage: StageView, view: RequirementView) -> bool:
    """Whether the agent that runs the stage is suspended, or is about to be."""
    is_pre_empted = any(hold.boundary == PRE_EMPTION for hold in view.holds)
    return is_pre_empted and stage.state is StageState.RUNNING


def queued_line(queued: QueuedView) -> str:
    """That a stage waits for a slot: its place, how many slots are used, and why not more."""
    line = (
        f"{queued.stage} is queued for a slot on {queued.host} since "
        f"{output.since(queued.since, datetime.now(UTC))}: {queued_place(queued)}"
    )
    if queued.slots is not None and queued.slots != queued.configured:
        line += f"; {queued.configured} are configured, {queued.why}"
    return output.plain(line)


def queued_place(queued: QueuedView) -> str:
    """Its place, and how many slots are used."""
    place = f"place {queued.place} of {queued.waiting}"
    return place if queued.slots is None else f"{place}, {queued.used} of {queued.slots} slots used"


def retry_lines(retries: Sequence[RetryView], number: str = "") -> Iterator[str]:
    """Each step that fails now: since when, how often, when last, and what it said."""
    now = datetime.now(UTC)
    for retry in retries:
        whose = "" if retry.number == number else f"{retry.number}: "
        times = "once" if retry.tries == 1 else f"{retry.tries} times"
        yield output.plain(
            f"Retrying {whose}{retry.step} since {output.since(retry.since, now)}: "
            f"failed {times}, last at {output.clock(retry.last_at)}: "
            f"{output.first_line(retry.error)}"
        )
        if now - retry.last_at > _SILENT:
            yield (
                f"  {retry.host} has not tried for {output.duration(_seconds(now, retry.last_at))}."
                " Does its worker run? python starter.py doctor"
            )


def leftover_line(leftover: LeftoverView) -> str:
    """What an end has left, and that its host goes on trying."""
    if leftover.cleaned_at:
        return f"What it left on {leftover.host} is cleaned up."
    return output.plain(
        f"Not cleaned up on {leftover.host}, which tries again: "
        f"{output.first_line(leftover.reason)}"
    )


def _seconds(now: datetime, then: datetime) -> float:
    return (now - then).total_seconds()


def hold_lines(view: RequirementView) -> Iterator[str]:
    """Each open hold, and who has to be let go because they will not be delivered any more."""
    yield from (_hold_line(hold, view) for hold in view.holds)
    yield from release_lines(view)


def pre_emption_lines(view: RequirementView) -> Iterator[str]:
    """That agents stand still, which no stage's state tells."""
    return (_hold_line(hold, view) for hold in view.holds if hold.boundary == PRE_EMPTION)


def release_lines(view: RequirementView) -> Iterator[str]:
    """The command that lets it go on without who has ended otherwise than delivered."""
    for holder in view.holders:
        if holder.state.is_final and holder.state is not RequirementState.DELIVERED:
            yield f"{holder.number} is {holder.state} and will not be delivered. Go on without it:"
            yield f"  python starter.py unblock {view.number} --by {holder.number}"


def past_hold_lines(view: RequirementView) -> Iterator[str]:
    """The latest holds that are over, and how long all of them took together."""
    past = view.past_holds
    if not past:
        return
    took = sum((_length(hold) for hold in past), timedelta()).total_seconds()
    yield f"Holds that are over: {len(past)}, {output.duration(took)} in all"
    for hold in past[-_PAST_SHOWN:]:
        lasted = output.duration(_length(hold).total_seconds())
        at = output.since(hold.since, datetime.now(UTC))
        yield output.plain(f"  {at} {lasted} at {hold.boundary} by {', '.join(hold.held_by)}")


def _hold_line(hold: HoldView, view: RequirementView) -> str:
    states = {holder.number: holder.state for holder in view.holders}
    by = ", ".join(_named(name, states.get(name)) for name in hold.held_by)
    since = output.since(hold.since, datetime.now(UTC))
    what = "Agents stand still" if hold.boundary == PRE_EMPTION else f"Held at {hold.boundary}"
    return output.plain(f"{what} since {since} by {by}: {output.first_line(hold.reason)}")


def _named(name: str, state: RequirementState | None) -> str:
    return f"{name} ({state})" if state else name


def _length(hold: HoldView) -> timedelta:
    return (hold.ended_at or hold.since) - hold.since
