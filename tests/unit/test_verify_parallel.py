from datetime import timedelta

import pytest

from cli.verify_parallel import verdict
from pipeline.overlap import Cause, Delay, Overlaps, Pair, Relation

A_MINUTE = timedelta(minutes=1)


def a_pair(relation: Relation, delay: Delay | None = None) -> Pair:
    return Pair("Backend", "Frontend", relation, A_MINUTE, A_MINUTE, delay)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ((), "No two stages of this plan can overlap"),
        ((a_pair(Relation.ORDERED),), "No two stages of this plan can overlap"),
        ((a_pair(Relation.OVERLAPPED),), "1 pair of stages overlapped, and none that should"),
        (
            (a_pair(Relation.OVERLAPPED), a_pair(Relation.NOT_RUN)),
            "ran apart. Of 1 more nothing is known.",
        ),
        (
            (a_pair(Relation.NOT_RUN), a_pair(Relation.TOO_SHORT)),
            "Nothing is verified: Backend and Frontend (have not both run);"
            " Backend and Frontend (ran too briefly to tell).",
        ),
        (
            (
                a_pair(Relation.OVERLAPPED),
                a_pair(Relation.APART, Delay("Frontend", A_MINUTE, Cause.HELD, "REQ-911 is a P0")),
            ),
            "Backend and Frontend could overlap for 1m00s and did not: Frontend began 1m00s after"
            " it could, it was held: REQ-911 is a P0",
        ),
    ],
)
def test_the_verdict_names_what_ran_apart_and_why(pairs: tuple[Pair, ...], said: str) -> None:
    assert said in "\n".join(verdict(Overlaps(("Backend", "Frontend"), pairs)))
