"""From checked submissions to running workflows: rows first, all or none."""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from adapters.sdlc_store import Acceptance
from adapters.temporal.client import known_search_attributes, reaching_temporal
from adapters.temporal.workflows import workflow_standing
from cli.connections import Services, wake_held
from cli.inputs import Submission
from pipeline.errors import AlreadyStarted, NumberElsewhere
from pipeline.model import (
    Closing,
    Pipeline,
    RequirementOrder,
    RequirementRef,
    RequirementState,
)
from workflows.starting import start_requirement

T = TypeVar("T")

_AT_ONCE = 20
"""Calls in flight: a backlog of hundreds starts in seconds and does not flood the server."""


@dataclass(frozen=True)
class Launch:
    """A submission with the plan that it named."""

    submission: Submission
    pipeline: Pipeline


async def launch(
    services: Services, launches: Sequence[Launch], *, heartbeat: timedelta, attach: bool
) -> tuple[str, ...]:
    """Start all or none; returns the numbers that were started, without those joined.

    A start that got no further than its row is completed with the input that stands there.

    Raises: AlreadyStarted, unless `attach` lets what was started before be joined;
        NumberElsewhere, before any row is written.
    """
    started = await _started_before(services, [each.submission.number for each in launches])
    if started and not attach:
        raise AlreadyStarted(
            f"{', '.join(started)}: started before, and a number is used once."
            " Take another number, or follow that one with --attach."
        )
    attributes = await known_search_attributes(services.temporal)
    fresh = [
        _acceptance(each, heartbeat, attributes)
        for each in launches
        if each.submission.number not in started
    ]
    await services.store.accept_all(fresh)
    if any(acceptance.blocked_by for acceptance in fresh):
        await wake_held(services)  # what a P0 waits for goes on
    orders = [await services.reader.order(each.order.number) for each in fresh]
    await _bounded([_start(services, order) for order in orders])
    return tuple(order.number for order in orders)


async def _started_before(services: Services, numbers: Sequence[str]) -> tuple[str, ...]:
    ours = services.installation.queues.central
    known = await _bounded([workflow_standing(services.temporal, number) for number in numbers])
    foreign = [n for n, each in zip(numbers, known, strict=True) if each and each.queue != ours]
    if foreign:
        raise NumberElsewhere(*foreign)
    states = await services.reader.states(numbers)
    return tuple(
        number
        for number, is_known in zip(numbers, known, strict=True)
        if is_known or states.get(number, RequirementState.ACCEPTED) != RequirementState.ACCEPTED
    )


async def _start(services: Services, order: RequirementOrder) -> None:
    client = services.temporal
    try:
        with reaching_temporal(client):
            await start_requirement(client, services.installation.queues, order)
    except NumberElsewhere as refusal:  # it was quicker than our row
        ref = RequirementRef(order.number, "")
        await services.store.close_requirement(
            Closing(ref, RequirementState.FAILED, str(refusal), "")
        )
        raise


def _acceptance(launch: Launch, heartbeat: timedelta, attributes: tuple[str, ...]) -> Acceptance:
    submission = launch.submission
    order = RequirementOrder(
        number=submission.number,
        title=submission.title,
        priority=submission.priority,
        pipeline=launch.pipeline,
        sequential=submission.sequential,
        pre_empts=submission.preempt,
        heartbeat=heartbeat,
        search_attributes=attributes,
    )
    return Acceptance(order, submission.description, blocked_by=submission.blocked_by)


async def _bounded(calls: Sequence[Awaitable[T]]) -> list[T]:
    slots = asyncio.Semaphore(_AT_ONCE)

    async def call(awaitable: Awaitable[T]) -> T:
        async with slots:
            return await awaitable

    return await asyncio.gather(*map(call, calls))
