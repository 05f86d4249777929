"""Start permits of a host: how many agents may live at once, and who is next.

Arithmetic only: who lives is known from the run directories, and told from outside.
"""

import asyncio
import heapq
from dataclasses import dataclass, field
from itertools import count

_arrivals = count()


@dataclass(frozen=True, order=True)
class Rank:
    """Order of service: the more urgent, then the longer path to the end, then the earlier."""

    priority: int
    shortness: float
    """The negated length of the longest remaining path."""
    arrival: int = field(default_factory=lambda: next(_arrivals))


@dataclass(frozen=True, order=True)
class Claim:
    """A wish for a permit; `granted` is done when it may start."""

    rank: Rank
    run_id: str = field(compare=False)
    granted: "asyncio.Future[None]" = field(compare=False, hash=False)


class Permits:
    """At most `limit` runs living or about to start. Used from one event loop only."""

    def __init__(self, limit: int) -> None:
        """Start with nobody living."""
        self._limit = limit
        self._living: set[str] = set()
        self._starting: dict[int, Claim] = {}
        self._waiting: list[Claim] = []

    @property
    def living(self) -> frozenset[str]:
        """Run ids of the runs that hold a permit because they live."""
        return frozenset(self._living)

    def resize(self, limit: int) -> None:
        """Change the limit; runs above a lower one end by themselves."""
        self._limit = limit
        self._grant()

    def adopt(self, run_id: str) -> None:
        """Count a run that lives already, even above the limit."""
        self._living.add(run_id)

    def claim(self, run_id: str, priority: int, remaining_minutes: float) -> Claim:
        """Ask for a permit to start; granted at once if one is free and nobody is before."""
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        claim = Claim(Rank(priority, -remaining_minutes), run_id, granted)
        heapq.heappush(self._waiting, claim)
        self._grant()
        return claim

    def settle(self, claim: Claim, *, is_living: bool) -> None:
        """Turn a claim into a living run, or give it up. Granted or not, it is over with."""
        claim.granted.cancel()
        self._starting.pop(claim.rank.arrival, None)
        if is_living:
            self._living.add(claim.run_id)
        self._grant()

    def free(self, run_id: str) -> None:
        """The run has ended."""
        self._living.discard(run_id)
        self._grant()

    def _grant(self) -> None:
        while self._waiting and len(self._living) + len(self._starting) < self._limit:
            claim = heapq.heappop(self._waiting)
            if not claim.granted.done():
                claim.granted.set_result(None)
                self._starting[claim.rank.arrival] = claim
