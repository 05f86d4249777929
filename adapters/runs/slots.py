"""The slots of a host: how many agents may live at once, and the queue for a slot.

The living runs are counted from the run directories, so a restart forgets none. Starting a run
takes a slot, attaching to one does not. A slot is *free*, *reserved* for a run that was just called
from the queue, *starting* while a run is opened and started with it, or *used* by a living run.

The limit is in two files of the state directory, one that a human sets and one that is lowered for
a while, so that neither of two writers undoes what the other one wrote.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from adapters.files import write_atomically
from adapters.waiting import in_thread
from pipeline.errors import PipelineError, RefusedInput
from pipeline.model import SlotRequest, SlotUsage

log = logging.getLogger("agog.runs")

SLOTS, LOWERED = "slots.json", "slots-lowered.json"

MOST_SLOTS = 1_000
"""A worker takes a multiple of this many stages at once; see `worker.py`."""

TICK_SECONDS = 0.5
"""Longest time between two looks at a run directory."""

WAITING_ROOM = 20
"""How many stages wait on the host itself; all others wait in Temporal's queue. This bounds the
heartbeats. A slot that comes free calls one of them, and the next one arrives within a poll, so
twenty are enough even if all agents of a host end at once."""

RESERVED_SECONDS = 120.0
"""How long a slot stays reserved for a run that was called. It comes within a tenth of a second, on
a loaded machine within seconds, and a cancelled one is withdrawn. Only a terminated workflow does
neither."""

_arrivals = count()


LEAST_LOWERED = 2
"""Nobody lowers a limit below this: one long agent would hold up every other stage."""


@dataclass(frozen=True)
class Lowered:
    """A lower limit for as long as its reason lasts."""

    to: int
    why: str


class SlotLimit:
    """The limit of one host; its worker follows every change. Every method may block."""

    def __init__(self, home: Path, configured: int) -> None:
        self._home = home
        self.configured = configured
        self._is_closed = False

    def close(self) -> None:
        """Start no more runs from this process; living ones continue."""
        self._is_closed = True

    def current(self) -> int:
        """The limit now: the one that was set, or else configured, unless lowered.

        Once closed, 0.

        Raises: RefusedInput if a file holds no limit.
        """
        if self._is_closed:
            return 0
        wanted, lowered = self.chosen() or self.configured, self.lowered()
        return min(wanted, max(LEAST_LOWERED, lowered.to)) if lowered else wanted

    def chosen(self) -> int | None:
        """What a human has set, if anything. Raises: RefusedInput if the file holds no limit."""
        fields = self._read(SLOTS)
        return None if fields is None else _limit(fields, self._home / SLOTS)

    def lowered(self) -> Lowered | None:
        """The lowered limit with its reason, if any. Raises: RefusedInput as `chosen`."""
        fields = self._read(LOWERED)
        if fields is None:
            return None
        return Lowered(_limit(fields, self._home / LOWERED), str(fields.get("why", "")))

    def why(self) -> str:
        """Why the limit differs from the configured one; empty if it does not."""
        if self._is_closed:
            return "closed: the worker ends with its servers"
        wanted, lowered = self.chosen() or self.configured, self.lowered()
        if lowered and self.current() < wanted:
            return f"lowered: {lowered.why}"
        return "" if wanted == self.configured else "set by `starter.py slots`"

    def set(self, slots: int) -> None:
        """Let that many agents live at once. Raises: RefusedInput unless it is 1 to 1000."""
        self._write(SLOTS, {"to": check_slots(slots)})

    def reset(self) -> None:
        """Return to the configured limit."""
        (self._home / SLOTS).unlink(missing_ok=True)

    def lower(self, to: int, why: str) -> None:
        """Let no more than that many agents live, but two at least, until `restore`."""
        self._write(LOWERED, asdict(Lowered(max(LEAST_LOWERED, to), why)))

    def restore(self) -> None:
        """Remove the lowered limit."""
        (self._home / LOWERED).unlink(missing_ok=True)

    def _read(self, name: str) -> Any:
        path = self._home / name
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RefusedInput(f"{path} is not JSON: {error}. Remove it.") from error

    def _write(self, name: str, fields: dict[str, Any]) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        write_atomically(self._home / name, json.dumps(fields))


def check_slots(slots: int) -> int:
    """The number, unchanged. Raises: RefusedInput unless it is 1 to 1000."""
    if not 1 <= slots <= MOST_SLOTS:
        raise RefusedInput(f"{slots} slots: 1 to {MOST_SLOTS} agents can live at once.")
    return slots


def _limit(fields: Any, path: Path) -> int:
    limit = fields.get("to") if isinstance(fields, dict) else None
    if type(limit) is not int or not 1 <= limit <= MOST_SLOTS:
        raise RefusedInput(f"{path} holds no number of slots, 1 to {MOST_SLOTS}. Remove it.")
    return limit


@dataclass(frozen=True, order=True)
class _Rank:
    """Order of service: by priority, then the longer path to the end, then the earlier arrival."""

    priority: int
    shortness: float
    since: float
    arrival: int = field(default_factory=lambda: next(_arrivals))


@dataclass(eq=False)
class _Waiter:
    """A run in the queue; `called` is done when its turn comes, or when it must leave the room."""

    rank: _Rank
    run_id: str
    called: "asyncio.Future[None]"
    resumes: bool


class Slots:
    """Gives out as many slots as the limit says now, in the order of the queue.

    Used from one event loop only.
    """

    def __init__(
        self, limit: SlotLimit, living: Iterable[str], has_ended: Callable[[str], bool]
    ) -> None:
        """Count the runs that live already. `has_ended` tells whether a run has freed its slot.

        `has_ended` may block. Raises: RefusedInput if the limit cannot be read.
        """
        self._limit = limit
        self._slots, self._why = limit.current(), limit.why()
        self._has_ended = has_ended
        self._living = set(living)
        self._attached: dict[str, int] = {}
        self._starting: set[str] = set()
        self._reserved: dict[str, asyncio.TimerHandle] = {}
        self._expected: dict[str, tuple[int, asyncio.TimerHandle]] = {}
        self._queue: list[_Waiter] = []
        self._sweeping: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self._refusal = ""
        self.sweeps = 0
        """How often the host was inspected on behalf of all waiting runs."""

    # --- reporting ------------------------------------------------------------------------------

    @property
    def used(self) -> int:
        """How many slots are not free."""
        return len(self._living | self._starting | self._reserved.keys())

    @property
    def usage(self) -> SlotUsage:
        """What people who wait are told."""
        return SlotUsage(self.used, self._slots, self._limit.configured, self._why)

    def place(self, run_id: str) -> int:
        """Its place among the runs that wait on the host, from 1; 0 if it does not wait here."""
        ranks = {subscriber.run_id: subscriber.rank for subscriber in self._queue}
        own = ranks.get(run_id)
        return sum(rank <= own for rank in ranks.values()) if own else 0

    async def usages(self) -> AsyncIterator[SlotUsage]:
        """The usage whenever it has changed while a run waits; never ends."""
        last: SlotUsage | None = None
        while True:
            await self._news.wait()
            self._news.clear()
            if self.usage != last:
                last = self.usage
                yield last

    # --- starting -------------------------------------------------------------------------------

    def take(self, request: SlotRequest) -> bool:
        """Take the slot that is reserved for the run, or a free one; whether there was one."""
        self._follow()
        run_id = request.run_id
        if reserved := self._reserved.pop(run_id, None):
            reserved.cancel()
        elif run_id not in self._living and self.used >= self._slots:
            return False
        self._arrived(run_id)
        self._starting.add(run_id)
        return True

    def settle(self, run_id: str, *, is_living: bool) -> None:
        """Turn a slot that was taken into that of a living run, or give it back."""
        self._starting.discard(run_id)
        if is_living:
            self._living.add(run_id)
        self._call()

    # --- living ---------------------------------------------------------------------------------

    def attach(self, run_id: str) -> None:
        """Leave the run to a caller that follows it and reports its end."""
        self._attached[run_id] = self._attached.get(run_id, 0) + 1

    def detach(self, run_id: str) -> None:
        """One caller less follows the run."""
        self._attached[run_id] -= 1
        if not self._attached[run_id]:
            del self._attached[run_id]

    def adopt(self, run_id: str) -> None:
        """Count a living run, even above the limit."""
        self._living.add(run_id)

    def free(self, run_id: str) -> None:
        """The run has ended, or is suspended."""
        self._living.discard(run_id)
        self._call()

    # --- waiting --------------------------------------------------------------------------------

    async def wait(self, request: SlotRequest, *, resumes: bool = False) -> None:
        """Wait until a slot is reserved for the run, or a more urgent one needs its place.

        A run that `resumes` from suspension is not in the waiting room and keeps its place.
        """
        self._arrived(request.run_id)
        if request.run_id in self._reserved:
            return self._reserve(request.run_id)
        since = request.since.timestamp() if request.since else 0.0
        rank = _Rank(request.priority, -request.remaining_minutes, since)
        called = asyncio.get_running_loop().create_future()
        subscriber = _Waiter(rank, request.run_id, called, resumes)
        self._queue.append(subscriber)
        self._make_way()
        self._follow()
        self._call()
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep())
        try:
            await called
        except asyncio.CancelledError:
            if request.run_id in self._reserved:
                self._give_up(request.run_id)
            raise
        finally:
            if subscriber in self._queue:
                self._queue.remove(subscriber)
            self._news.set()

    def withdraw(self, key: str) -> None:
        """Stop waiting for the run, or for every run of the execution: none may be started now."""

        def is_meant(run_id: str) -> bool:
            return run_id == key or run_id.startswith(f"{key}/")

        for subscriber in [subscriber for subscriber in self._queue if is_meant(subscriber.run_id)]:
            self._dismiss(subscriber)
        for run_id in [*filter(is_meant, self._expected)]:
            self._arrived(run_id)
        for run_id in [*filter(is_meant, self._reserved)]:
            self._give_up(run_id)

    def expect(self, request: SlotRequest) -> None:
        """Note that the run found no slot, and will be back by way of Temporal's queue.

        Until then a slot that comes free is reserved for it if it is more urgent than every run
        that waits here, and the waiting room has a place for it.
        """
        loop = asyncio.get_running_loop()
        late = loop.call_later(RESERVED_SECONDS, self._arrived, request.run_id)
        self._arrived(request.run_id)
        self._expected[request.run_id] = (request.priority, late)
        self._make_way()

    def _make_way(self) -> None:
        """Send the least urgent run out of a full room if a more urgent one is expected.

        Also when a run comes in: Temporal may have let it in because the more urgent one was not in
        its queue yet.
        """
        room = [subscriber for subscriber in self._queue if not subscriber.resumes]
        if len(room) < WAITING_ROOM or not self._expected:
            return
        last = max(room, key=lambda subscriber: subscriber.rank)
        if last.rank.priority > min(priority for priority, _ in self._expected.values()):
            self._dismiss(last)

    def _arrived(self, run_id: str) -> None:
        """The run is no longer expected."""
        if run_id in self._expected:
            self._expected.pop(run_id)[1].cancel()

    def _dismiss(self, subscriber: _Waiter) -> None:
        self._queue.remove(subscriber)
        if not subscriber.called.done():
            subscriber.called.set_result(None)

    def _call(self) -> None:
        """Reserve free slots for the first of the queue, or for a more urgent run that is expected.

        While the queue is empty nothing is reserved: the next stage finds the free slot.
        """
        while self._queue and self.used < self._slots:
            first = min(self._queue, key=lambda subscriber: subscriber.rank)
            urgent, run_id = min(
                (
                    (priority, run_id)
                    for run_id, (priority, _) in self._expected.items()
                    if run_id not in self._reserved
                ),
                default=(first.rank.priority, ""),
            )
            if urgent < first.rank.priority:
                self._reserve(run_id)
                continue
            self._dismiss(first)
            if not first.called.cancelled():
                self._reserve(first.run_id)

    def _reserve(self, run_id: str) -> None:
        if run_id in self._reserved:
            self._reserved[run_id].cancel()
        loop = asyncio.get_running_loop()
        self._reserved[run_id] = loop.call_later(RESERVED_SECONDS, self._give_up, run_id)

    def _give_up(self, run_id: str) -> None:
        """The run did not come for its slot, or no longer wants it."""
        self._reserved.pop(run_id).cancel()
        self._call()

    async def _sweep(self) -> None:
        """Look for ended runs while others wait, once for all of them."""
        while self._queue:
            self._news.set()
            await asyncio.sleep(TICK_SECONDS)
            self.sweeps += 1
            self._follow()
            for run_id in self._living - self._attached.keys():
                try:
                    has_ended = await in_thread(partial(self._has_ended, run_id))
                except (OSError, ValueError, PipelineError) as error:
                    log.error("Cannot tell whether %s still runs: %s", run_id, error)
                else:
                    if has_ended and run_id not in self._attached:
                        self.free(run_id)

    def _follow(self) -> None:
        """Read the limit again. One that cannot be read changes nothing, and is logged once."""
        try:
            self._slots, self._why = self._limit.current(), self._limit.why()
        except RefusedInput as refusal:
            if str(refusal) != self._refusal:
                log.error("The number of slots stays as it is: %s", refusal)
            self._refusal = str(refusal)
        else:
            self._refusal = ""
            self._call()
