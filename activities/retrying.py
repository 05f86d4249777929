"""Transient errors are retried visibly, and no longer than their bound.

Temporal repeats the activity; what the next attempt must know of the failures before it travels in
the heartbeat details, which outlive an attempt and a lost worker alike. A row beside them shows the
retry to people while the database is up.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from temporalio import activity
from temporalio.exceptions import ApplicationError

from pipeline.errors import PipelineError, RetriesExhausted, printable
from pipeline.failures import cut
from pipeline.model import (
    BuildRequest,
    DeliveryRequest,
    FixMerge,
    OpeningRequest,
    Retry,
    StageRequest,
)
from pipeline.ports import HostPorts

log = logging.getLogger(__name__)

_LONGEST_PAUSE = timedelta(seconds=10)
"""Temporal's longest pause between two attempts; a longer one means that no worker was there."""
_ERROR_LENGTH = 2_000
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Streak:
    """Failures of one step in a row, as they stand in the heartbeat details."""

    step: str
    since: datetime
    tries: int
    failing_seconds: float
    """How long the step took to fail, pauses included, without the time of a lost worker."""
    error: str
    last_at: datetime

    @classmethod
    def told(cls, details: Sequence[Any]) -> "Streak | None":
        """The streak in the last attempt's heartbeat, if there is one."""
        said = details[0] if details else None
        if not isinstance(said, dict) or "failing_seconds" not in said:
            return None
        return cls(
            step=str(said["step"]),
            since=datetime.fromisoformat(said["since"]),
            tries=int(said["tries"]),
            failing_seconds=float(said["failing_seconds"]),
            error=str(said["error"]),
            last_at=datetime.fromisoformat(said["last_at"]),
        )


class Attempt:
    """One attempt of an activity: its current step, and the failures before it."""

    def __init__(self, ports: HostPorts, arguments: Sequence[Any]) -> None:
        self._ports = ports
        self._info = info = activity.info()
        self._streak = None if info.is_local else Streak.told(info.heartbeat_details)
        self._subject = _subject(arguments)
        self._tells: list[Callable[[], object]] = []
        self._step = info.activity_type.replace("_", " ")
        self._began = self._step_began = monotonic()

    def beat(self) -> None:
        """Say that the worker lives; every heartbeat carries the streak, or it would be lost.

        What else is told follows it: the first place is the streak's, also while there is none.
        """
        if self._info.is_local:
            return
        told = [tell() for tell in self._tells]
        activity.heartbeat(*((self._streak, *told) if told or self._streak else ()))

    def tell(self, what: Callable[[], object]) -> None:
        """Add a value to every heartbeat, for people who look at the activity."""
        self._tells.append(what)

    @asynccontextmanager
    async def at(self, step: str) -> AsyncIterator[None]:
        """Name the current step; once it passes, its failures are forgotten."""
        before = self._step
        self._step, self._step_began = step, monotonic()
        yield
        if self._streak and self._streak.step == step:
            await self.over()
        self._step, self._step_began = before, monotonic()

    async def failed(self, error: Exception) -> ApplicationError:
        """Count a failure; returns the error for Temporal: retry, or retries exhausted."""
        streak = self._count(error)
        if self._is_last():  # its caller has bounded it already
            await self.over()
            return ApplicationError(streak.error, type=type(error).__name__)
        failing = timedelta(seconds=streak.failing_seconds)
        if failing >= self._ports.retry_bound:
            await self.over()
            exhausted = RetriesExhausted(streak.error, streak.tries, failing / _MINUTE)
            return ApplicationError(str(exhausted), type=_EXHAUSTED, non_retryable=True)
        await self._show(streak)
        return ApplicationError(streak.error, type=type(error).__name__)

    async def waits(self, error: Exception) -> None:
        """Count a failure that the activity itself retries, without a bound."""
        await self._show(self._count(error))

    async def over(self) -> None:
        """Forget the failures: nothing is retried now."""
        if self._streak is None:
            return
        self._streak = None
        self.beat()
        await self._written(
            self._ports.store.forget_retry(self._info.workflow_id or "", self._info.activity_id)
        )

    def _count(self, error: Exception) -> Streak:
        now = self._at(monotonic())
        said = cut(_words(error), _ERROR_LENGTH)
        before = self._earlier(now)
        if before is None:
            streak = Streak(self._step, now, 1, 0.0, said, now)
        else:
            began = self._at(self._step_began)
            pause = min(max(began - before.last_at, timedelta()), _LONGEST_PAUSE)
            took = now - max(began, before.last_at)
            failing = before.failing_seconds + (pause + took).total_seconds()
            streak = Streak(self._step, before.since, before.tries + 1, failing, said, now)
        self._streak = streak
        self.beat()
        return streak

    def _earlier(self, now: datetime) -> Streak | None:
        if self._info.is_local:  # it cannot beat, and does nothing but this one thing
            tries, since = self._info.attempt - 1, self._info.scheduled_time
            failing = (now - since).total_seconds()
            return Streak(self._step, since, tries, failing, "", now) if tries else None
        same = self._streak and self._streak.step == self._step
        return self._streak if same else None

    def _at(self, moment: float) -> datetime:
        """The moment by the server's clock, which dated the attempt."""
        return self._info.started_time + timedelta(seconds=moment - self._began)

    def _is_last(self) -> bool:
        policy = self._info.retry_policy
        return bool(policy and 0 < policy.maximum_attempts <= self._info.attempt)

    async def _show(self, streak: Streak) -> None:
        step = f"{self._subject}: {streak.step}" if self._subject else streak.step
        level = logging.WARNING if streak.tries == 1 or not streak.tries % 10 else logging.DEBUG
        log.log(level, "%s has failed (%d): %s", step, streak.tries, streak.error)
        retry = Retry(
            self._info.workflow_id or "",
            self._info.activity_id,
            self._ports.host,
            step,
            streak.since,
            streak.tries,
            streak.error,
            streak.last_at,
        )
        await self._written(self._ports.store.note_retry(retry))

    async def _written(self, write: Awaitable[None]) -> None:
        """Showing a retry must never fail the activity."""
        try:
            await write
        except PipelineError as error:
            log.info("A retry cannot be shown: %s", error)


_EXHAUSTED = RetriesExhausted.__name__
_ATTEMPT: ContextVar[Attempt | None] = ContextVar("attempt", default=None)


@asynccontextmanager
async def attempting(ports: HostPorts, arguments: Sequence[Any]) -> AsyncIterator[Attempt]:
    """The attempt that the activity within is; its steps find it."""
    attempt = Attempt(ports, arguments)
    token = _ATTEMPT.set(attempt)
    try:
        yield attempt
    except asyncio.CancelledError:
        details = activity.cancellation_details()
        if details and details.cancel_requested:  # else another worker continues with it
            await attempt.over()
        raise
    finally:
        _ATTEMPT.reset(token)


@asynccontextmanager
async def step(name: str) -> AsyncIterator[None]:
    """Name what an activity does next: failures are counted, bounded and shown step by step."""
    attempt = _ATTEMPT.get()
    if attempt is None:  # no worker runs it: a test does
        yield
        return
    async with attempt.at(name):
        yield


def tell_with_each_beat(what: Callable[[], object]) -> None:
    """Add a value to every heartbeat of this activity, for people who look at it."""
    if attempt := _ATTEMPT.get():
        attempt.tell(what)


async def waits_for(error: Exception) -> None:
    """Show that the step waits and retries by itself."""
    if attempt := _ATTEMPT.get():
        await attempt.waits(error)


def _words(error: Exception) -> str:
    """The error's message; a foreign one needs its type to be understood."""
    said = printable(str(error)).strip()
    return said if isinstance(error, PipelineError) else f"{type(error).__name__}: {said}"


def _subject(arguments: Sequence[Any]) -> str:
    """What the activity is about, where one workflow may have several of a kind."""
    match arguments:
        case [StageRequest() as request, *_]:
            return request.stage.name
        case [BuildRequest() as request, *_]:
            return f"build {request.build}"
        case [FixMerge() as merge, *_]:
            return merge.fix.number
        case [DeliveryRequest() as request, *_]:
            return request.target_branch or "delivery"
        case [OpeningRequest(), *_]:
            return "opening"
    return ""
