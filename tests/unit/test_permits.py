import asyncio
import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from adapters.runs.permits import Claim, Permits


async def test_waiters_are_served_by_priority_then_longest_path_then_arrival() -> None:
    permits = Permits(1)
    permits.adopt("living")
    wishes = [("late", 2, 60), ("short", 2, 30), ("urgent", 0, 5), ("later", 2, 60), ("low", 4, 99)]
    claims = [permits.claim(*wish) for wish in wishes]
    served = []

    permits.free("living")
    while granted := [claim for claim in claims if claim.granted.done()]:
        served += [claim.run_id for claim in granted]
        claims = [claim for claim in claims if claim not in granted]
        permits.settle(granted[0], is_living=False)

    assert served == ["urgent", "late", "later", "short", "low"]


async def test_a_claim_that_was_given_up_is_passed_over() -> None:
    permits = Permits(1)
    permits.adopt("living")
    given_up, next_one = permits.claim("a", 1, 1), permits.claim("b", 2, 1)

    permits.settle(given_up, is_living=False)
    permits.free("living")

    assert next_one.granted.done()


async def test_a_permit_that_was_granted_but_not_used_goes_to_the_next() -> None:
    permits = Permits(1)
    first, second = permits.claim("a", 1, 1), permits.claim("b", 1, 1)

    permits.settle(first, is_living=False)

    assert second.granted.done()
    assert permits.living == frozenset()


async def test_a_higher_limit_serves_those_who_wait_at_once() -> None:
    permits = Permits(1)
    claims = [permits.claim(name, 1, 1) for name in "abc"]

    permits.resize(2)

    assert [claim.granted.done() for claim in claims] == [True, True, False]


async def test_runs_above_a_lowered_limit_end_before_another_starts() -> None:
    permits = Permits(2)
    for name in ("a", "b"):
        permits.settle(permits.claim(name, 1, 1), is_living=True)
    permits.resize(1)
    waiting = permits.claim("c", 1, 1)

    permits.free("a")
    assert not waiting.granted.done()
    permits.free("b")
    assert waiting.granted.done()


@dataclass
class Crowd:
    """Runs that start, end and give up in any order; what holds at every moment is checked."""

    limit: int
    permits: Permits = field(init=False)
    claims: list[Claim] = field(default_factory=list)
    living: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.permits = Permits(self.limit)

    def step(self, choice: random.Random, name: str) -> None:
        granted = [claim for claim in self.claims if claim.granted.done()]
        action = choice.choice(("claim", "start", "end", "give up"))
        if action == "claim":
            self.claims.append(self.permits.claim(name, choice.randint(0, 4), choice.random()))
        elif action == "end" and self.living:
            self.permits.free(self.living.pop())
        elif action == "start" and granted:
            self._settle(granted[0], is_living=True)
        elif action == "give up" and self.claims:
            self._settle(choice.choice(self.claims), is_living=False)
        self.check()

    def _settle(self, claim: Claim, *, is_living: bool) -> None:
        self.claims.remove(claim)
        self.permits.settle(claim, is_living=is_living)
        if is_living:
            self.living.add(claim.run_id)

    def check(self) -> None:
        granted = [claim for claim in self.claims if claim.granted.done()]
        taken = len(self.living) + len(granted)
        assert taken <= self.limit
        assert self.permits.living == self.living
        # Nobody waits while a permit is free.
        assert taken == self.limit or len(granted) == len(self.claims)


@given(limit=st.integers(1, 4), seed=st.integers(0, 10_000), steps=st.integers(1, 80))
def test_never_more_than_the_limit_live_and_no_permit_lies_idle(
    limit: int, seed: int, steps: int
) -> None:
    async def crowd() -> None:
        crowd, choice = Crowd(limit), random.Random(seed)
        for step in range(steps):
            crowd.step(choice, f"run-{step}")

    asyncio.run(crowd())
