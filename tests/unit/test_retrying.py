"""How failures of an activity are counted, and when its time is over."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.retrying import Attempt, Streak, attempting, step
from pipeline.errors import GitFailed
from pipeline.model import Retry
from pipeline.ports import HostPorts

SCHEDULED = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Books:
    """What is shown of retries."""

    def __init__(self) -> None:
        self.shown: dict[tuple[str, str], Retry] = {}

    async def note_retry(self, retry: Retry) -> None:
        self.shown[retry.workflow_id, retry.activity_id] = retry

    async def forget_retry(self, workflow_id: str, activity_id: str) -> None:
        self.shown.pop((workflow_id, activity_id), None)


class Activity:
    """One activity, attempt after attempt, by the server's clock."""

    def __init__(self, bound: timedelta = 10 * MINUTE) -> None:
        self.books = Books()
        ports = SimpleNamespace(store=self.books, host="here", retry_bound=bound)
        self._ports = cast(HostPorts, ports)
        self._details: list[Any] = []
        self._attempt = 0

    async def fail(self, at: timedelta, name: str = "merge", passes: str = "") -> ApplicationError:
        """An attempt that begins then and fails at once in that step; others pass before it."""
        with self._environment(at) as environment:
            return await environment.run(self._fail, name, passes)

    async def succeed(self, at: timedelta, name: str = "merge") -> None:
        with self._environment(at) as environment:
            await environment.run(self._succeed, name)

    async def _fail(self, name: str, passes: str) -> ApplicationError:
        async with attempting(self._ports, ()) as attempt:
            if passes:
                async with step(passes):
                    pass
            return await _failed(attempt, name)

    async def _succeed(self, name: str) -> None:
        async with attempting(self._ports, ()), step(name):
            pass

    @contextmanager
    def _environment(self, at: timedelta) -> Iterator[ActivityEnvironment]:
        environment = ActivityEnvironment()
        self._attempt += 1
        environment.info = replace(
            environment.info,
            attempt=self._attempt,
            started_time=SCHEDULED + at,
            heartbeat_details=list(self._details),
        )

        def beat(*details: Any) -> None:
            self._details = [_as_received(each) for each in details]

        environment.on_heartbeat = beat
        yield environment


async def _failed(attempt: Attempt, name: str) -> ApplicationError:
    try:
        async with step(name):
            raise GitFailed("fatal: no space left")
    except GitFailed as error:
        return await attempt.failed(error)


def _as_received(streak: Streak) -> dict[str, Any]:
    """As the pydantic converter hands it to the next attempt."""
    times = {"since": streak.since.isoformat(), "last_at": streak.last_at.isoformat()}
    return {**asdict(streak), **times}


async def test_failures_in_a_row_are_shown_with_their_number_and_the_first_moment() -> None:
    merge = Activity()
    for nth in range(5):
        assert not (await merge.fail(nth * timedelta(seconds=10))).non_retryable

    (shown,) = merge.books.shown.values()
    assert (shown.tries, shown.step, shown.error) == (5, "merge", "fatal: no space left")
    assert timedelta() <= shown.since - SCHEDULED < timedelta(seconds=10)
    await merge.succeed(timedelta(seconds=50))
    assert merge.books.shown == {}


async def test_after_its_bound_it_is_given_up_with_its_own_words() -> None:
    merge = Activity()
    errors = [await merge.fail(nth * timedelta(seconds=10)) for nth in range(62)]

    given_up = [nth for nth, error in enumerate(errors) if error.non_retryable]
    assert given_up[0] in (60, 61)  # the clock of the machine moves a little, too
    last = errors[given_up[0]]
    tried = f"(tried {given_up[0] + 1} times in 10."
    assert last.message.startswith(f"fatal: no space left {tried}")
    assert last.type == "RetriesExhausted"


async def test_time_without_a_worker_does_not_count() -> None:
    merge = Activity()
    await merge.fail(timedelta())
    error = await merge.fail(timedelta(days=7))

    assert not error.non_retryable
    assert next(iter(merge.books.shown.values())).tries == 2


async def test_another_step_begins_to_count_anew() -> None:
    """The agent has worked for hours between the two."""
    stage = Activity(bound=MINUTE)
    for nth in range(5):
        await stage.fail(nth * timedelta(seconds=10), "clone")
    error = await stage.fail(timedelta(minutes=1), "merge", passes="clone")

    assert not error.non_retryable
    (shown,) = stage.books.shown.values()
    assert (shown.step, shown.tries) == ("merge", 1)


async def test_step_that_passes_before_does_not_end_the_count_of_another() -> None:
    stage = Activity(bound=MINUTE)
    errors = [
        await stage.fail(nth * timedelta(seconds=10), "merge", passes="clone") for nth in range(8)
    ]

    assert [error.non_retryable for error in errors].index(True) in (6, 7)


@pytest.mark.parametrize("details", [[], [None], ["beat"]])
def test_heartbeat_that_tells_of_no_failure_is_none(details: list[Any]) -> None:
    assert Streak.told(details) is None
