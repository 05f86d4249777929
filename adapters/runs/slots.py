"""The slots of a host: a counting semaphore over its living runs, and the queue for it.

Who lives is known from the run directories, so a restart forgets nobody. Starting a run takes a
slot, attaching to one does not. A slot is *free*, *reserved* for somebody who has just been called
from the queue, *starting* while somebody opens and starts a run with it, or *used* by a living run.
Used from one event loop only.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import count

from adapters.runs.slot_limit import SlotLimit
from adapters.runs.waiting import TICK_SECONDS, in_thread
from pipeline.errors import PipelineError, RefusedInput
from pipeline.model import SlotRequest, SlotUsage

log = logging.getLogger("agog.runs")

WAITING_ROOM = 20
"""As many stages wait on a host itself, whatever the number of those that wait: so many heartbeats,
and no more. All others wait in Temporal's queue. A slot that is given back calls one of them, and
the next comes in within a poll; so twenty also serve a host whose agents end all at once."""

RESERVED_SECONDS = 120.0
"""The longest that a slot is kept for who was called. They come within a tenth of a second, on a
loaded machine within some; who was cancelled is withdrawn. Only a workflow that was terminated
neither comes nor is withdrawn."""

_arrivals = count()


@dataclass(frozen=True, order=True)
class _Rank:
    """Order of service: the more urgent, then the longer path to the end, then the earlier."""

    priority: int
    shortness: float
    since: float
    arrival: int = field(default_factory=lambda: next(_arrivals))


@dataclass(eq=False)
class _Waiter:
    """Somebody in the queue; `called` is done when it is their turn, or when they must make way."""

    rank: _Rank
    run_id: str
    called: "asyncio.Future[None]"
    resumes: bool


class Slots:
    """Gives out as many slots as the limit of the moment says, the first of the queue first."""

    def __init__(
        self, limit: SlotLimit, living: Iterable[str], has_ended: Callable[[str], bool]
    ) -> None:
        """Count who lives already. `has_ended` says of a run whether it uses no slot any more.

        It may block. Raises: RefusedInput if the limit cannot be read.
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
        """Looks at the host that were made for all who wait together."""

    # --- what is said of it ---------------------------------------------------------------------

    @property
    def used(self) -> int:
        """How many slots are not free."""
        return len(self._living | self._starting | self._reserved.keys())

    @property
    def usage(self) -> SlotUsage:
        """What people are told who wait."""
        return SlotUsage(self.used, self._slots, self._limit.configured, self._why)

    def place(self, run_id: str) -> int:
        """Its place among those who wait on the host, the first is 1; 0 if it is not among them."""
        ranks = {waiter.run_id: waiter.rank for waiter in self._queue}
        own = ranks.get(run_id)
        return sum(rank <= own for rank in ranks.values()) if own else 0

    async def usages(self) -> AsyncIterator[SlotUsage]:
        """The usage whenever it has changed, as long as somebody waits; without end."""
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
        """Somebody follows the run and will say when it ends: it is not looked after here."""
        self._attached[run_id] = self._attached.get(run_id, 0) + 1

    def detach(self, run_id: str) -> None:
        """One less follows the run."""
        self._attached[run_id] -= 1
        if not self._attached[run_id]:
            del self._attached[run_id]

    def adopt(self, run_id: str) -> None:
        """Count a run that lives, even above the limit."""
        self._living.add(run_id)

    def free(self, run_id: str) -> None:
        """The run has ended, or is suspended."""
        self._living.discard(run_id)
        self._call()

    # --- waiting --------------------------------------------------------------------------------

    async def wait(self, request: SlotRequest, *, resumes: bool = False) -> None:
        """Wait in the queue until a slot is reserved for the run, or a more urgent one needs room.

        Who `resumes` a suspended run is in no waiting room, and makes way for nobody.
        """
        self._arrived(request.run_id)
        if request.run_id in self._reserved:
            return self._reserve(request.run_id)
        since = request.since.timestamp() if request.since else 0.0
        rank = _Rank(request.priority, -request.remaining_minutes, since)
        called = asyncio.get_running_loop().create_future()
        waiter = _Waiter(rank, request.run_id, called, resumes)
        self._queue.append(waiter)
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
            if waiter in self._queue:
                self._queue.remove(waiter)
            self._news.set()

    def withdraw(self, key: str) -> None:
        """The run, or every run of the execution, is not to be started now: nobody waits for it."""

        def is_meant(run_id: str) -> bool:
            return run_id == key or run_id.startswith(f"{key}/")

        for waiter in [waiter for waiter in self._queue if is_meant(waiter.run_id)]:
            self._dismiss(waiter)
        for run_id in [*filter(is_meant, self._expected)]:
            self._arrived(run_id)
        for run_id in [*filter(is_meant, self._reserved)]:
            self._give_up(run_id)

    def expect(self, request: SlotRequest) -> None:
        """Somebody found no slot and is about to come in, by way of Temporal's queue.

        Until then a slot that comes free is kept for them if they are more urgent than all who wait
        here, and there is a place in the room for them.
        """
        loop = asyncio.get_running_loop()
        late = loop.call_later(RESERVED_SECONDS, self._arrived, request.run_id)
        self._arrived(request.run_id)
        self._expected[request.run_id] = (request.priority, late)
        self._make_way()

    def _make_way(self) -> None:
        """Let the least urgent out of a full room in which somebody more urgent is expected.

        Also when one comes in: Temporal may have let him in first, since the other was not in its
        queue yet.
        """
        room = [waiter for waiter in self._queue if not waiter.resumes]
        if len(room) < WAITING_ROOM or not self._expected:
            return
        last = max(room, key=lambda waiter: waiter.rank)
        if last.rank.priority > min(priority for priority, _ in self._expected.values()):
            self._dismiss(last)

    def _arrived(self, run_id: str) -> None:
        """They are expected no more."""
        if run_id in self._expected:
            self._expected.pop(run_id)[1].cancel()

    def _dismiss(self, waiter: _Waiter) -> None:
        self._queue.remove(waiter)
        if not waiter.called.done():
            waiter.called.set_result(None)

    def _call(self) -> None:
        """Reserve what is free for the first of the queue, or for who is more urgent and expected.

        Nobody has to be kept for while nobody waits: who comes then finds what is free.
        """
        while self._queue and self.used < self._slots:
            first = min(self._queue, key=lambda waiter: waiter.rank)
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
        """Nobody came for the slot, or it was wanted no more."""
        self._reserved.pop(run_id).cancel()
        self._call()

    async def _sweep(self) -> None:
        """Look after the host while somebody waits: once for all of them."""
        while self._queue:
            self._news.set()
            await asyncio.sleep(TICK_SECONDS)
            self.sweeps += 1
            self._follow()
            for run_id in self._living - self._attached.keys():
                try:
                    has_ended = await in_thread(partial(self._has_ended, run_id))
                except (OSError, ValueError, PipelineError) as error:
                    log.error("Cannot see whether %s still runs: %s", run_id, error)
                else:
                    if has_ended and run_id not in self._attached:
                        self.free(run_id)

    def _follow(self) -> None:
        """Take over what the limit says; what cannot be read changes nothing, and is told once."""
        try:
            self._slots, self._why = self._limit.current(), self._limit.why()
        except RefusedInput as refusal:
            if str(refusal) != self._refusal:
                log.error("The number of slots stays as it is: %s", refusal)
            self._refusal = str(refusal)
        else:
            self._refusal = ""
            self._call()
